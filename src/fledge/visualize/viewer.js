// Boxes over a picture on a canvas: pan, zoom, hover, step through, filter by class and score. `makeViewer(root)` runs
// one <section class="viewer">; its `show(scene)` takes what fledge.visualize.viewer.scene_data describes.
const makeViewer = (root) => {
  const find = (selector) => root.querySelector(selector);
  const canvas = find("canvas"), tip = find(".tip"), bar = find(".bar"), north = find(".north"), where = find(".where");
  const score = find(".score input"), scoreText = find(".score output"), list = find(".class-list"), said = find(".said");
  const pen = canvas.getContext("2d");
  const CELLS = 64; // of the look-up grid along a side
  const DOT = 4, SMALL = 14; // pixels of its long side below which a box is a dot, and a thin line
  let scene = null, corners = null, order = [], cells = [], hidden = new Set(), least = 0, chosen = -1;
  let view = { x: 0, y: 0, scale: 1 }, width = 0, height = 0, waiting = false, whole = true;

  const draw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      paint();
    });
  };

  const visible = (i) => scene.scores[i] >= least && !hidden.has(scene.labels[i]);

  const outline = (i) => {
    const { x, y, scale } = view, at = 8 * i;
    pen.moveTo(corners[at] * scale + x, corners[at + 1] * scale + y);
    for (let k = 2; k < 8; k += 2) pen.lineTo(corners[at + k] * scale + x, corners[at + k + 1] * scale + y);
    pen.closePath();
  };

  const inView = (i) => {
    const { x, y, scale } = view, reach = scene.boxes[5 * i + 2];
    const cx = scene.boxes[5 * i] * scale + x, cy = scene.boxes[5 * i + 1] * scale + y, r = reach * scale;
    return cx + r > 0 && cy + r > 0 && cx - r < width && cy - r < height;
  };

  const paint = () => {
    const ratio = devicePixelRatio || 1;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (!scene) return;
    const { x, y, scale } = view;
    pen.imageSmoothingEnabled = scale * (scene.picture ? scene.width / scene.picture.width : 1) < 3;
    pen.imageSmoothingQuality = "high";
    if (scene.picture) pen.drawImage(scene.picture, x, y, scene.width * scale, scene.height * scale);
    else {
      pen.fillStyle = getComputedStyle(root).getPropertyValue("--card");
      pen.fillRect(x, y, scene.width * scale, scene.height * scale);
    }
    const groups = scene.classes.map(() => []);
    for (const i of order) if (visible(i) && inView(i)) groups[scene.labels[i]].push(i);
    pen.lineJoin = "round";
    groups.forEach((group, label) => {
      if (!group.length) return;
      const { colour } = scene.classes[label], length = (i) => scene.boxes[5 * i + 2] * scale;
      const outlines = (some, thick, below) => {
        pen.beginPath();
        some.forEach(outline);
        stroke(colour, thick, below);
      };
      outlines(group.filter((i) => length(i) >= DOT && length(i) < SMALL), 1.25, 0);
      outlines(group.filter((i) => length(i) >= SMALL), 1.75, 2);
      pen.fillStyle = colour;
      for (const i of group) if (length(i) < DOT) pen.fillRect(scene.boxes[5 * i] * scale + x - 1, scene.boxes[5 * i + 1] * scale + y - 1, 2, 2);
    });
    if (chosen >= 0 && visible(chosen)) {
      pen.beginPath();
      outline(chosen);
      pen.fillStyle = scene.classes[scene.labels[chosen]].colour + "40";
      pen.fill();
      stroke(scene.classes[scene.labels[chosen]].colour, 3, 2);
    }
    furnish();
  };

  // A line, above a dark one that is wider: readable on any ground.
  const stroke = (colour, thick, below) => {
    if (below) {
      pen.strokeStyle = "rgb(0 0 0 / .45)";
      pen.lineWidth = thick + below;
      pen.stroke();
    }
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.stroke();
  };

  const furnish = () => {
    const metres = scene.metres_per_pixel || 0, unit = metres || 1; // ground length of one pixel, or the pixel itself
    const room = Math.min(130, width / 3) * unit / view.scale;
    const power = 10 ** Math.floor(Math.log10(room));
    const length = [5, 2, 1].map((n) => n * power).find((n) => n <= room);
    bar.hidden = !isFinite(length);
    bar.style.width = length / unit * view.scale + "px";
    bar.textContent = metres ? (length >= 1000 ? length / 1000 + " km" : +length.toPrecision(1) + " m") : +length.toPrecision(1) + " px";
    north.hidden = scene.north === null || scene.north === undefined;
    if (!north.hidden) north.style.rotate = scene.north + "rad";
  };

  const resize = () => {
    const box = canvas.getBoundingClientRect(), ratio = devicePixelRatio || 1, before = [width, height];
    width = box.width;
    height = box.height;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    if (scene && whole) return fit();
    view.x += (width - before[0]) / 2;
    view.y += (height - before[1]) / 2;
    draw();
  };

  const fitScale = () => Math.min(width / scene.width, height / scene.height) * 0.98;

  const fit = () => {
    const scale = fitScale();
    view = { scale, x: (width - scene.width * scale) / 2, y: (height - scene.height * scale) / 2 };
    whole = true; // and it stays so when the page changes its size
    draw();
  };

  const zoom = (factor, px = width / 2, py = height / 2) => {
    const least = fitScale() / 2, scale = Math.min(Math.max(view.scale * factor, least), Math.max(64, least));
    const by = scale / view.scale;
    view = { scale, x: px - (px - view.x) * by, y: py - (py - view.y) * by };
    whole = false;
    draw();
  };

  const move = (dx, dy) => {
    view.x = Math.min(Math.max(view.x + dx, width / 2 - scene.width * view.scale), width / 2);
    view.y = Math.min(Math.max(view.y + dy, height / 2 - scene.height * view.scale), height / 2);
    whole = false;
    draw();
  };

  // A grid over the scene: each cell lists the boxes whose surrounding circle reaches it.
  const index = () => {
    cells = Array.from({ length: CELLS * CELLS }, () => []);
    const cell = (value, side) => Math.min(Math.max(Math.floor(value / side * CELLS), 0), CELLS - 1);
    order.forEach((i) => {
      const [cx, cy, w, h] = scene.boxes.slice(5 * i, 5 * i + 4), r = Math.hypot(w, h) / 2;
      for (let row = cell(cy - r, scene.height); row <= cell(cy + r, scene.height); row++)
        for (let column = cell(cx - r, scene.width); column <= cell(cx + r, scene.width); column++)
          cells[row * CELLS + column].push(i);
    });
  };

  // The smallest visible box below a point of the canvas, or a pixel beside it; -1 for none.
  const under = (px, py) => {
    const x = (px - view.x) / view.scale, y = (py - view.y) / view.scale, slack = 3 / view.scale;
    const column = Math.floor(x / scene.width * CELLS), row = Math.floor(y / scene.height * CELLS);
    if (column < 0 || row < 0 || column >= CELLS || row >= CELLS) return -1;
    let best = -1, area = Infinity;
    for (const i of cells[row * CELLS + column]) {
      if (!visible(i)) continue;
      const [cx, cy, w, h, angle] = scene.boxes.slice(5 * i, 5 * i + 5), c = Math.cos(angle), s = Math.sin(angle);
      const along = Math.abs((x - cx) * c + (y - cy) * s), across = Math.abs((y - cy) * c - (x - cx) * s);
      if (along <= w / 2 + slack && across <= h / 2 + slack && w * h < area) [best, area] = [i, w * h];
    }
    return best;
  };

  const words = (i) => {
    const unit = scene.metres_per_pixel ? "m" : "px", digits = scene.metres_per_pixel ? 1 : 0, [length, breadth] = scene.sizes.slice(2 * i, 2 * i + 2);
    const lines = [
      scene.classes[scene.labels[i]].name,
      "score " + scene.scores[i].toFixed(2),
      length.toFixed(digits) + " × " + breadth.toFixed(digits) + " " + unit,
    ];
    if (scene.bearings) lines.push("bearing " + Math.round(scene.bearings[i]) % 180 + "°");
    return lines;
  };

  const choose = (i, px, py) => {
    if (i !== chosen) draw();
    chosen = i;
    tip.hidden = i < 0;
    canvas.style.cursor = i < 0 ? "" : "pointer";
    if (i < 0) return;
    const lines = words(i);
    tip.replaceChildren(...lines.map((line, k) => Object.assign(document.createElement(k ? "div" : "strong"), { textContent: line })));
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(px + 14, width - box.width - 4)) + "px";
    tip.style.top = Math.max(4, py + 14 + box.height > height ? py - box.height - 10 : py + 14) + "px";
  };

  // Where the pointer is in the world.
  const locate = (at) => {
    where.hidden = !at || !scene.transform;
    if (where.hidden) return;
    const [a, b, c, d, e, f] = scene.transform, x = (at[0] - view.x) / view.scale, y = (at[1] - view.y) / view.scale;
    const digits = Math.max(0, Math.min(7, Math.ceil(-Math.log10(Math.hypot(a, d)))));
    const [east, north] = [a * x + b * y + c, d * x + e * y + f].map((value) => value.toFixed(digits));
    where.textContent = [east, north, scene.crs].filter(Boolean).join("  ");
  };

  // From box to box in the order of scores, for those who use the keyboard.
  const step = (by) => {
    const all = order.filter(visible);
    if (!all.length) return;
    const at = all.indexOf(chosen), i = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : (at + by + all.length) % all.length];
    const px = () => [scene.boxes[5 * i] * view.scale + view.x, scene.boxes[5 * i + 1] * view.scale + view.y];
    if (scene.boxes[5 * i + 2] * view.scale < 24) zoom(24 / (scene.boxes[5 * i + 2] * view.scale));
    const [x, y] = px();
    if (x < 40 || y < 40 || x > width - 40 || y > height - 40) {
      view.x += width / 2 - x;
      view.y += height / 2 - y;
      whole = false;
    }
    choose(i, ...px());
    said.textContent = words(i).join(", ");
  };

  const count = () => {
    const shown = scene.classes.map(() => 0);
    let all = 0;
    for (const i of order) {
      if (scene.scores[i] < least) continue;
      shown[scene.labels[i]]++;
      all += !hidden.has(scene.labels[i]);
    }
    list.querySelectorAll("output").forEach((cell, label) => (cell.textContent = shown[label]));
    find(".count").textContent = all + (all === 1 ? " object" : " objects") + (all < order.length ? " of " + order.length : "");
  };

  const filter = () => {
    least = +score.value;
    scoreText.textContent = least.toFixed(2);
    hidden = new Set([...list.querySelectorAll("input")].flatMap((box, label) => (box.checked ? [] : [label])));
    if (chosen >= 0 && !visible(chosen)) choose(-1);
    count();
    draw();
  };

  const classRow = ({ name, colour }) => {
    const label = document.createElement("label"), box = document.createElement("input"), mark = document.createElement("i");
    Object.assign(box, { type: "checkbox", checked: true });
    mark.style.background = colour;
    label.append(box, mark, Object.assign(document.createElement("span"), { textContent: name }), document.createElement("output"));
    return label;
  };

  const show = (given) => {
    scene = given;
    order = scene.scores.map((_, i) => i).sort((a, b) => scene.scores[b] - scene.scores[a]);
    corners = new Float64Array(8 * order.length);
    order.forEach((i) => {
      const [cx, cy, w, h, angle] = scene.boxes.slice(5 * i, 5 * i + 5), c = Math.cos(angle) / 2, s = Math.sin(angle) / 2;
      [[-1, -1], [1, -1], [1, 1], [-1, 1]].forEach(([a, b], k) => {
        corners[8 * i + 2 * k] = cx + a * w * c - b * h * s;
        corners[8 * i + 2 * k + 1] = cy + a * w * s + b * h * c;
      });
    });
    const lowest = order.length ? scene.scores[order[order.length - 1]] : 0;
    const floor = Math.floor(lowest * 100) / 100;
    Object.assign(score, { min: floor, max: 1, step: 0.01, value: Math.max(floor, scene.start || 0) });
    list.replaceChildren(list.querySelector("legend"), ...scene.classes.map(classRow));
    choose(-1);
    index();
    filter();
    resize();
    fit();
  };

  const pointers = new Map();
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!scene) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, place(event));
    choose(under(...place(event)), ...place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!scene) return;
    const now = place(event), last = pointers.get(event.pointerId);
    locate(now);
    if (!last) return choose(under(...now), ...now);
    if (pointers.size === 2) {
      const [, other] = [...pointers].find(([id]) => id !== event.pointerId);
      const gap = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
      zoom(gap(now) / gap(last), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    } else {
      move(now[0] - last[0], now[1] - last[1]);
      if (Math.hypot(now[0] - last[0], now[1] - last[1]) > 2) choose(-1);
    }
    pointers.set(event.pointerId, now);
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => {
    locate(null);
    if (!pointers.size) choose(-1);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!scene) return;
    event.preventDefault();
    zoom(1.0015 ** -event.deltaY, ...place(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => scene && zoom(2, ...place(event)));
  const keys = {
    ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit, n: () => step(1), p: () => step(-1),
    Escape: () => choose(-1),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!scene || !keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  find(".nearer").addEventListener("click", () => scene && zoom(1.5));
  find(".farther").addEventListener("click", () => scene && zoom(1 / 1.5));
  find(".whole").addEventListener("click", () => scene && fit());
  score.addEventListener("input", filter);
  list.addEventListener("change", filter);
  new ResizeObserver(resize).observe(canvas);
  matchMedia("(prefers-color-scheme:dark)").addEventListener("change", draw);
  return { show, view: () => ({ ...view }), chosen: () => chosen };
};
