/**
 * XML as routers write it, read with limits. The parser knows no entities but the five of XML itself and follows no
 * references, so a document costs no more than its length; nesting is bounded here.
 */
import { parseXml, XmlElement as ParsedElement } from "@rgrove/parse-xml";

/** An element without its namespace prefix. */
export interface XmlElement {
  readonly name: string;
  readonly children: readonly XmlElement[];
  /** All text within, without white space at its ends. */
  readonly text: string;
}

const MAX_CHARACTERS = 131_072;
const MAX_DEPTH = 32;
const MAX_ELEMENTS = 2048;

/** The root of a document; a text that says what is wrong if it is none or exceeds the limits. */
export function readXml(text: string): XmlElement | string {
  if (text.length > MAX_CHARACTERS) return `it has more than ${MAX_CHARACTERS} characters`;
  // Routers end documents with what their buffers held.
  const document = text.replaceAll(/^[\s\0\ufeff]+|[\s\0]+$/g, "");
  if (/<!(DOCTYPE|ENTITY)/i.test(document))
    return "it has a document type declaration, which no router needs";
  if (isDeep(document))
    return `it has more than ${MAX_ELEMENTS} elements, or nests more than ${MAX_DEPTH} deep`;
  try {
    const { root } = parseXml(document);
    return root === null ? "it has no element" : elementOf(root);
  } catch (thrown) {
    return `it is no XML: ${((thrown as Error).message.split("\n")[0] ?? "").slice(0, 200)}`;
  }
}

/** The first element of that name, the element itself included. */
export function findElement(within: XmlElement, name: string): XmlElement | undefined {
  if (within.name === name) return within;
  for (const child of within.children) {
    const found = findElement(child, name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Text of the child of that name; "" where there is none. */
export function childText(of: XmlElement, name: string): string {
  return of.children.find((child) => child.name === name)?.text ?? "";
}

/** Counted before the parser, which nests its calls as the document does its elements. */
function isDeep(document: string): boolean {
  let depth = 0;
  let elements = 0;
  for (const [tag] of document.matchAll(/<[^<>]*>/g)) {
    if (tag.startsWith("<?") || tag.startsWith("<!")) continue;
    if (tag.startsWith("</")) depth--;
    else {
      elements++;
      if (!tag.endsWith("/>")) depth++;
    }
    if (depth > MAX_DEPTH || elements > MAX_ELEMENTS) return true;
  }
  return false;
}

function elementOf(element: ParsedElement): XmlElement {
  const children = element.children.filter((child) => child instanceof ParsedElement).map(elementOf);
  return {
    name: element.name.slice(element.name.lastIndexOf(":") + 1),
    children,
    text: element.text.trim(),
  };
}
