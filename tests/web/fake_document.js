// A document of elements that can only be written and read as text: Deno has no DOM.

class FakeElement extends EventTarget {
  /** @param {string} tag */
  constructor(tag) {
    super();
    this.tag = tag;
    /** @type {Map<string, string>} */
    this.attributes = new Map();
    /** @type {(FakeElement | string)[]} */
    this.children = [];
  }

  get open() {
    return this.attributes.has("open");
  }

  set open(open) {
    if (open) this.attributes.set("open", "");
    else this.attributes.delete("open");
  }

  /** @param {string} name @param {string} value */
  setAttribute(name, value) {
    this.attributes.set(name, String(value));
  }

  /** @param {...(FakeElement | string)} children */
  append(...children) {
    this.children.push(...children);
  }

  /** @returns {string} */
  get textContent() {
    return this.children.map((child) => typeof child === "string" ? child : child.textContent).join("");
  }

  /** The elements below this one that have a tag, in the order of the document. @param {string} tag @returns {FakeElement[]} */
  all(tag) {
    const elements = this.children.filter((child) => child instanceof FakeElement);
    return elements.flatMap((child) => [...(child.tag === tag ? [child] : []), ...child.all(tag)]);
  }
}

/** Install the document. */
export function installDocument() {
  const createElement = (/** @type {string} */ tag) => new FakeElement(tag);
  Object.defineProperty(globalThis, "document", { value: { createElement }, configurable: true });
}

/** The fake of an element that the page has created. @param {unknown} element */
export const fake = (element) => /** @type {FakeElement} */ (element);
