// Finding and making elements. All text goes in as text, never as HTML.

export const find = id => document.getElementById(id);

export function make(tag, fields = {}, ...children) {
  const node = Object.assign(document.createElement(tag), fields);
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}

export const instantiate = id => find(id).content.cloneNode(true).firstElementChild;

// Give the user a file.
export function saveFile(blob, name) {
  const url = URL.createObjectURL(blob), link = make("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
