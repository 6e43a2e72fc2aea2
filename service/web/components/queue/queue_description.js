// The head of a queue's view, and the request of the queue in one line.

import { h, number } from "../../lib/dom.js";
import { address, toRun } from "../../lib/route.js";
import { crumbs } from "../layout.js";
import { className } from "../labels.js";
import { strategyName } from "./strategies.js";

/** @import { NamedClasses, Queue, QueuePage, Run } from "../../types.d.ts" */

/**
 * @param {Run} run
 * @param {QueuePage} queue
 */
export const queueHead = (run, queue) => [
  crumbs(["Runs", "#/"], [run.run, toRun(run.run)], [queue.name]),
  h("h1", { class: "wrap" }, queue.name),
  h(
    "p",
    { class: "lead" },
    describeQueue(run, queue),
    " ",
    h("a", { href: address(["runs", run.run, "export"], { queue: queue.name }) }, "Export it"),
  ),
  queue.chosen && h("p", { class: "muted" }, queue.chosen.why),
  queue.warnings.length > 0 && h("ul", { class: "notice warn" }, queue.warnings.map((text) => h("li", {}, text))),
];

/**
 * The strategy, budget and quotas of a queue in words.
 *
 * @param {NamedClasses} run
 * @param {Pick<Queue, "request" | "strategy" | "chosen" | "epoch">} queue
 */
export function describeQueue(run, { request, strategy, chosen, epoch }) {
  const mix = Object.entries(chosen?.mix || request.mix || {});
  const sum = mix.reduce((total, [, share]) => total + share, 0);
  const parts = mix.map(([name, share]) =>
    `${strategyName(name).toLowerCase()} ${Math.round((100 * share) / sum)}\u00a0%`
  );
  const { per_class: quota, min_per_class: minimum, at_most: limit } = request;
  return [
    `${strategyName(strategy)}${chosen && chosen.strategy !== "mix" ? `: ${strategyName(chosen.strategy)}` : ""}${
      parts.length ? ` of ${parts.join(" and ")}` : ""
    }`,
    `up to ${number(request.budget)} rows`,
    quota === "equal" && "the same number of each class",
    quota === "proportional" && "in proportion to the classes",
    quota && typeof quota !== "string" &&
    `at most ${
      Object.entries(quota).map(([label, rows]) => `${number(rows)} ${className(run, Number(label))}`).join(", ")
    }`,
    minimum && minimum > 0 && `at least ${number(minimum)} of each class`,
    limit &&
    `at most ${number(limit.count)} ${limit.attribute ? `with the same ${limit.attribute}` : "of each example"}`,
    request.overlap && request.overlap > 1 && `${number(request.overlap)} reviewers for each row`,
    request.blind && "without the verdicts of others",
    `from epoch ${epoch}.`,
  ].filter(Boolean).join(", ");
}
