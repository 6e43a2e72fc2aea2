// Charts drawn by plotly.js. The service serves the library from a Python package; the first chart loads it.

import { colour } from "./colours.js";
import { h } from "./dom.js";

/** @import { Child } from "../types.d.ts" */
/** @typedef {HTMLElement & { redraw: () => Promise<void> }} Chart */

// Plotly adds style elements of these ids unless the page has elements of the same ids, and the page's security policy
// refuses them. The first holds the styles of its maps, which the page does not use. Plotly leaves the second out by
// itself where its element has the class `no-inline-styles`.
const STYLE_IDS = ["9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53", "plotly.js-style-global"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
/** @type {Promise<any> | null} */
let library = null;

/** Load plotly.js. */
function loadPlotly() {
  library ??= new Promise((resolve, reject) => {
    for (const id of STYLE_IDS) document.head.append(h("meta", { id, class: "no-inline-styles" }));
    document.head.append(h("script", {
      src: "web/plotly.min.js",
      onload: () => resolve(/** @type {any} */ (globalThis).Plotly),
      onerror: () => {
        library = null;
        reject(new Error("The charts could not be loaded."));
      },
    }));
  });
  return library;
}

/**
 * Escape the markup that Plotly reads in its texts.
 *
 * @param {string} text
 */
export const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/**
 * A chart. The table, if there is one, repeats its numbers for people who cannot see it.
 *
 * @param {Child} title Shown above the chart.
 * @param {string} description The content of the chart in words, for screen readers.
 * @param {() => { data: object[], layout: Record<string, any> }} draw Returns the arguments of Plotly in the current
 *   colours.
 * @param {object} [options]
 * @param {number} [options.height] In pixels.
 * @param {HTMLElement | null} [options.table]
 * @param {Record<string, (event: any) => void>} [options.on] Listeners by Plotly's event names.
 * @param {AbortSignal} [options.signal] Removes the chart when it aborts.
 * @returns {Chart}
 */
export function chart(title, description, draw, { height = 260, table = null, on = {}, signal } = {}) {
  const plot = h("div", { class: "plot", role: "img", "aria-label": description });
  plot.style.height = `${height}px`;
  const figure = h(
    "figure",
    { class: "chart-figure" },
    title && h("figcaption", {}, title),
    plot,
    table && h("details", {}, h("summary", {}, "As a table"), table),
  );
  /** @type {any} */
  let Plotly = null;
  const paint = async () => {
    const { data, layout } = draw();
    await Plotly.react(
      plot,
      data,
      { ...base(height), ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis) },
      {
        displayModeBar: false,
        responsive: true,
        showTips: false,
        doubleClick: false,
      },
    );
  };
  // Plotly measures the element, so the element has to be in the document.
  const ready = visible(plot, signal).then(loadPlotly).then(async (loaded) => {
    if (signal?.aborted) return;
    Plotly = loaded;
    await paint();
    for (const [name, listener] of Object.entries(on)) /** @type {any} */ (plot).on(name, listener);
    DARK.addEventListener("change", paint, { signal });
    signal?.addEventListener("abort", () => Plotly.purge(plot));
  }).catch((error) => plot.replaceChildren(h("p", { class: "muted" }, error.message)));
  return Object.assign(figure, { redraw: () => ready.then(() => Plotly && paint()) });
}

/**
 * Wait until an element is in view.
 *
 * @param {Element} element
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function visible(element, signal) {
  return new Promise((resolve) => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      resolve();
    });
    observer.observe(element);
    signal?.addEventListener("abort", () => observer.disconnect());
  });
}

/** @param {number} height */
function base(height) {
  return {
    height,
    margin: { l: 64, r: 16, t: 10, b: 44 },
    showlegend: false,
    bargap: 0.06,
    dragmode: false,
    hovermode: "closest",
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("muted") },
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line"), font: { color: colour("text") } },
  };
}

/** @param {object} options */
function axis(options = {}) {
  return {
    gridcolor: colour("line"),
    linecolor: colour("line"),
    zeroline: false,
    fixedrange: true,
    automargin: true,
    ...options,
  };
}
