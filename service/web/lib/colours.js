// Colours of the style sheet and of canvases.

/** @typedef {[red: number, green: number, blue: number, alpha: number]} Colour From 0 to 255. */

/**
 * A colour of the page's style sheet.
 *
 * @param {string} name
 */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/**
 * A quiet colour of a class; neighbouring classes differ. Class 0, most often the background, is the palest.
 *
 * @param {number} label
 * @param {boolean} dark True for a dark page.
 * @returns {Colour}
 */
export function classColour(label, dark) {
  if (label === 0) return dark ? [36, 44, 56, 255] : [238, 241, 245, 255];
  const hue = (label * 137.5) % 360; // the golden angle
  const light = dark ? 0.38 : 0.78 - 0.12 * (label % 2);
  const chroma = 0.35 * Math.min(light, 1 - light);
  /** @type {(shift: number) => number} */
  const channel = (shift) => {
    const part = (shift + hue / 30) % 12;
    return Math.round(255 * (light - chroma * Math.max(-1, Math.min(part - 3, 9 - part, 1))));
  };
  return [channel(0), channel(8), channel(4), 255];
}

/**
 * The colour of a text such as "#2653c0".
 *
 * @param {string} text
 * @param {number} alpha From 0 to 255.
 * @returns {Colour}
 */
export function colourOfText(text, alpha = 255) {
  const value = Number.parseInt(text.replace("#", ""), 16);
  return [value >> 16, (value >> 8) & 255, value & 255, alpha];
}
