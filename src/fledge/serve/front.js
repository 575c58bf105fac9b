// The page of the service: an image that is dropped, chosen or pasted goes to /detect, and its boxes are drawn over it.
const viewer = makeViewer(document.querySelector(".viewer"));
const about = JSON.parse(document.getElementById("about").textContent);
const picker = document.querySelector("#file"), status = document.querySelector(".status"), save = document.querySelector(".save");
const START = 0.3, LOWEST = 0.05; // what is shown at first, and what is asked for, so that the slider has room
let turn = 0, result = null;

const say = (text, kind = "") => {
  status.textContent = text;
  status.className = "status " + kind;
};

// The service sends the picture, too: a browser shows no TIFF, would turn a JPEG, and knows nothing of bands.
const ask = async (file) => {
  const form = new FormData();
  form.append("image", file);
  const answer = await fetch(`detect?format=pixels&score=${LOWEST}&preview=true`, { method: "POST", body: form });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
};

const fromAddress = async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
};

const detect = async (file) => {
  const mine = ++turn;
  if (file.size > about.max_bytes) return say(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; the limit is ${about.max_bytes / 1e6} MB.`, "bad");
  say(`Looking at ${file.name} …`, "busy");
  try {
    const { preview, ...found } = await ask(file);
    const picture = await fromAddress(preview);
    if (mine !== turn) return;
    result = { ...found, file: file.name };
    document.body.classList.add("has-result");
    viewer.show(sceneOf(found, picture));
    save.hidden = false;
    say(`${file.name}: ${found.width} × ${found.height} pixels.`);
  } catch (error) {
    if (mine === turn) say(error instanceof TypeError ? "The service does not answer. Does it still run?" : error.message, "bad");
  }
};

const sceneOf = (found, picture) => {
  const objects = found.detections, metres = found.metres_per_pixel ?? 1;
  return {
    ...found, picture, start: START, bearings: null, classes: about.classes,
    boxes: objects.flatMap(({ box }) => [box.cx, box.cy, box.w, box.h, box.angle]),
    sizes: objects.flatMap(({ box }) => [box.w * metres, box.h * metres]),
    scores: objects.map((object) => object.score),
    labels: objects.map((object) => about.classes.findIndex(({ name }) => name === object.class)),
  };
};

picker.addEventListener("change", () => {
  if (picker.files.length) detect(picker.files[0]);
  picker.value = "";
});
let depth = 0; // dragenter and dragleave also come from what lies inside
addEventListener("dragenter", () => document.body.classList.toggle("over", ++depth > 0));
addEventListener("dragleave", () => document.body.classList.toggle("over", --depth > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("over");
  const files = event.dataTransfer.files;
  if (files.length) detect(files[0]);
});
addEventListener("paste", (event) => {
  const files = event.clipboardData.files;
  if (files.length) detect(files[0]);
});
save.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(result, null, 1)], { type: "application/json" }));
  link.download = result.image + ".json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
