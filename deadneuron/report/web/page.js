// The report page: draws the picture that stands in it as JSON.

import { show } from "./app.js";
import { el } from "./dom.js";
import { unpackPicture } from "./unpack.js";

async function start() {
  const root = document.getElementById("picture");
  try {
    const payload = JSON.parse(document.getElementById("picture-data").textContent);
    show(root, await unpackPicture(payload));
    root.dataset.drawn = "true";
  } catch (error) {
    root.replaceChildren(el("p", { role: "alert" }, `The picture cannot be drawn: ${error.message}`));
  }
}

start();
