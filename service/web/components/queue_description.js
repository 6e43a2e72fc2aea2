// One line about a queue: its strategy, budget and quotas.

import { className, strategyName } from "./parts.js";
import { number } from "../lib/dom.js";

/** The request of a queue in words. */
export function describeQueue(run, { request, strategy, epoch }) {
  const mix = Object.entries(request.mix || {});
  const sum = mix.reduce((total, [, share]) => total + share, 0);
  const parts = mix.map(([name, share]) =>
    `${strategyName(name).toLowerCase()} ${Math.round((100 * share) / sum)}\u00a0%`
  );
  const { per_class: quota, min_per_class: least, at_most: most } = request;
  return [
    parts.length ? `${strategyName(strategy)} of ${parts.join(" and ")}` : strategyName(strategy),
    `up to ${number(request.budget)} rows`,
    quota === "equal" && "the same number of each class",
    quota === "proportional" && "in proportion to the classes",
    quota && typeof quota !== "string" &&
    `at most ${
      Object.entries(quota).map(([label, rows]) => `${number(rows)} ${className(run, Number(label))}`).join(", ")
    }`,
    least > 0 && `at least ${number(least)} of each class`,
    most && `at most ${number(most.count)} with the same ${most.attribute}`,
    `from epoch ${epoch}.`,
  ].filter(Boolean).join(", ");
}
