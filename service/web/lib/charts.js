// Charts by plotly.js, which the service serves out of a package. It is large, so it comes when a first chart is drawn.

import { h } from "./dom.js";

// Plotly brings the styles of its maps, which the page's policy refuses and nobody needs: an element of this name says
// that they are there already. The second is the way it has itself to leave its own styles to the page.
const STYLES = ["9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53", "plotly.js-style-global"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
let library = null;

function loaded() {
  library ??= new Promise((resolve, reject) => {
    for (const id of STYLES) document.head.append(h("meta", { id, class: "no-inline-styles" }));
    document.head.append(h("script", {
      src: "web/plotly.min.js",
      onload: () => resolve(globalThis.Plotly),
      onerror: () => {
        library = null;
        reject(new Error("The charts could not be loaded."));
      },
    }));
  });
  return library;
}

/** A colour of the page's style. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Plotly reads a little markup in its texts; an id is none. */
export const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/**
 * A chart with what it says in words; what can be read off it stands in `table` too, for who cannot see it.
 *
 * @param title What is drawn, above it.
 * @param words The same as a sentence, for a screen reader.
 * @param draw Gives Plotly's `{ data, layout }`, in the colours of now.
 * @param options height in px; `table`, an element; `on`, listeners by Plotly's names; signal, ends it.
 */
export function chart(title, words, draw, { height = 260, table = null, on = {}, signal } = {}) {
  const place = h("div", { class: "plot", role: "img", "aria-label": words });
  place.style.height = `${height}px`;
  const figure = h(
    "figure",
    { class: "chart-figure" },
    title && h("figcaption", {}, title),
    place,
    table && h("details", {}, h("summary", {}, "As a table"), table),
  );
  let Plotly = null;
  const paint = async () => {
    const { data, layout } = draw();
    await Plotly.react(place, data, {
      ...base(height),
      ...layout,
      xaxis: axis(layout.xaxis),
      yaxis: axis(layout.yaxis),
    }, { displayModeBar: false, responsive: true, showTips: false, doubleClick: false });
  };
  // Plotly measures the element, so it has to be on the page.
  const ready = visible(place, signal).then(loaded).then(async (found) => {
    if (signal?.aborted) return;
    Plotly = found;
    await paint();
    for (const [name, listener] of Object.entries(on)) place.on(name, listener);
    DARK.addEventListener("change", paint, { signal });
    signal?.addEventListener("abort", () => Plotly.purge(place));
  }).catch((error) => place.replaceChildren(h("p", { class: "muted" }, error.message)));
  figure.redraw = () => ready.then(() => Plotly && paint());
  return figure;
}

function visible(element, signal) {
  return new Promise((resolve) => {
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((one) => one.isIntersecting)) return;
      observer.disconnect();
      resolve();
    });
    observer.observe(element);
    signal?.addEventListener("abort", () => observer.disconnect());
  });
}

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

function axis(given = {}) {
  return {
    gridcolor: colour("line"),
    linecolor: colour("line"),
    zeroline: false,
    fixedrange: true,
    automargin: true,
    ...given,
  };
}
