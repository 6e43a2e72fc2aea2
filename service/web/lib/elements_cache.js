// The elements of the examples that were looked at last. A review shows the same example for each of its units.

/** @import { Elements, ExampleDetail } from "../types.d.ts" */

const MAX_EXAMPLES = 16;

export class ElementsCache {
  /** @param {(id: string) => Promise<Pick<ExampleDetail, "elements">>} loadExample */
  constructor(loadExample) {
    this.loadExample = loadExample;
    /** @type {Map<string, Promise<Elements | null>>} By id, the one used last at the end. */
    this.examples = new Map();
  }

  /**
   * The elements of an example; null if there are too many for a reply. A load that fails is repeated at the next call.
   *
   * @param {string} id
   */
  get(id) {
    const { examples } = this;
    const elements = examples.get(id) ??
      this.loadExample(id).then(({ elements: all }) => all ? withoutScores(all) : null);
    examples.delete(id);
    examples.set(id, elements);
    elements.catch(() => examples.delete(id));
    const [oldest] = examples.keys();
    if (examples.size > MAX_EXAMPLES) examples.delete(oldest);
    return elements;
  }
}

/**
 * The elements without their log odds, which the page does not show.
 *
 * @param {Elements} elements
 * @returns {Elements}
 */
const withoutScores = ({ shape, targets, predictions }) => ({ shape, targets, predictions });
