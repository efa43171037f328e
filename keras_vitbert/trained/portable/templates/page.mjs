// What predict.py does, in a page: the same tokenizer and view of an image, on ONNX Runtime Web.

const MASK = "[MASK]";
const LIKELIEST = 5; // answers that are shown

/** A function from one or two texts to their tokens, at most so many; where it fills, [MASK] is one. */
export function tokenizer(table, vocabulary) {
  const ids = new Map(vocabulary.map((token, id) => [token, id]));
  const [from, to] = table.folded.map((text) => [...text]);
  const changes = new Map([...Object.entries(table.expanded), ...from.map((one, i) => [one, to[i]])]);
  const [removed, hangul, isolated, spaces] = ["removed", "hangul", "words", "spaces"].map(
    (name) => new RegExp(table[name], "gu"),
  );
  const bytes = (word) => new TextEncoder().encode(word).length;

  function pieces(word) {
    const found = [];
    for (let start = 0, end; start < word.length; start = end) {
      const prefix = start ? "##" : "";
      for (end = word.length; end > start && !ids.has(prefix + word.slice(start, end)); ) end--;
      if (end === start) return [ids.get("[UNK]")];
      found.push(ids.get(prefix + word.slice(start, end)));
    }
    return found;
  }

  function tokens(text) {
    const plain = text.replace(removed, "").replace(hangul, (one) => one.normalize("NFD"));
    const folded = Array.from(plain, (one) => changes.get(one) ?? one).join("");
    const words = folded.replace(isolated, " $& ").replace(spaces, " ").split(" ");
    return words.flatMap((one) => (bytes(one) > table.longest_word ? ids.get("[UNK]") : pieces(one)));
  }

  return (texts, fills, most = Infinity) => {
    const parts = texts.map((text) => {
      const [first, ...others] = (fills ? text.split(MASK) : [text]).map(tokens);
      return [...first, ...others.flatMap((part) => [ids.get(MASK), ...part])];
    });
    const whole = parts.reduce((sum, part) => sum + part.length + 1, 1);
    // Of the longer one, or else of the second.
    for (let n = whole; n > most; n--) parts.reduce((a, b) => (b.length < a.length ? a : b)).pop();
    const found = [ids.get("[CLS]")], segments = [0];
    for (const [segment, part] of parts.entries()) {
      found.push(...part, ids.get("[SEP]"));
      while (segments.length < found.length) segments.push(segment);
    }
    return { ids: found, segments, mask: ids.get(MASK), whole };
  };
}

/** A square of RGBA bytes as RGB of another size, as TensorFlow resizes it: a triangle filter. */
export function resized(rgba, side, size) {
  const ratio = side / size, reach = Math.max(ratio, 1);
  const spans = Array.from({ length: size }, (_, place) => {
    const centre = (place + 0.5) * ratio - 0.5;
    const first = Math.max(Math.ceil(centre - reach), 0);
    const last = Math.min(Math.floor(centre + reach), side - 1);
    const weights = Array.from({ length: last - first + 1 }, (_, i) => 1 - Math.abs(first + i - centre) / reach);
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
  const weighted = ({ first, weights }, values, start, step) => {
    let sum = 0;
    for (let i = 0; i < weights.length; i++) sum += weights[i] * values[start + (first + i) * step];
    return Math.fround(sum);
  };
  const rows = new Float32Array(size * side * 3), found = new Uint8Array(size * size * 3);
  for (let i = 0; i < rows.length; i++) {
    const y = Math.floor(i / (side * 3)), x = Math.floor(i / 3) % side;
    rows[i] = weighted(spans[y], rgba, x * 4 + (i % 3), side * 4);
  }
  for (let i = 0; i < found.length; i++) {
    const y = Math.floor(i / (size * 3)), x = Math.floor(i / 3) % size;
    const value = weighted(spans[x], rows, y * side * 3 + (i % 3), 3), down = Math.floor(value);
    const isUp = value - down > 0.5 || (value - down === 0.5 && down % 2); // a half to the even one
    found[i] = isUp ? down + 1 : down;
  }
  return found;
}

/** The likeliest names with their probabilities, by the logits of all. */
export function likeliest(logits, names) {
  const most = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((total, one) => total + Math.exp(one - most), 0);
  const found = Array.from(logits.slice(0, names?.length), (one, i) => [names?.[i] ?? `${i}`, Math.exp(one - most) / sum]);
  return found.sort((a, b) => b[1] - a[1]).slice(0, LIKELIEST);
}

const find = (id) => document.getElementById(id);

/** What the page holds under a name: gzip in base64. */
async function unpack(name) {
  const packed = Uint8Array.from(atob(find(`packed_${name}`).textContent), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The central square of an image file, at the model's size. */
async function view(file, { size, central_crop }) {
  // A browser turns it as its Exif data say, as training and predict.py do.
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const image = await createImageBitmap(file, options);
  const exact = Math.fround(Math.min(image.width, image.height) * Math.fround(central_crop));
  const side = Math.max(exact % 1 === 0.5 ? 2 * Math.round(exact / 2) : Math.round(exact), 1);
  const context = new OffscreenCanvas(side, side).getContext("2d", { willReadFrequently: true });
  const start = (length) => -Math.floor((length - side) / 2);
  context.drawImage(image, start(image.width), start(image.height));
  return resized(context.getImageData(0, 0, side, side).data, side, size);
}

function show(place, answers, title = "") {
  const list = document.createElement("ol");
  for (const [name, probability] of answers) {
    const [row, label, number] = ["li", "span", "output"].map((tag) => document.createElement(tag));
    label.textContent = name; // never as HTML: a class may have any name
    number.textContent = probability.toFixed(4);
    row.style.setProperty("--share", `${100 * probability}%`);
    row.append(label, number);
    list.append(row);
  }
  const heading = document.createElement("h3");
  heading.textContent = title;
  place.append(...(title ? [heading] : []), list);
}

async function start() {
  const { title, facts, settings, heads, vocabulary, table } = JSON.parse(find("model").textContent);
  document.title = find("name").textContent = title;
  find("facts").textContent = facts;
  const program = new Blob([await unpack("runtime")], { type: "text/javascript" });
  const ort = await import(URL.createObjectURL(program));
  Object.assign(ort.env.wasm, { numThreads: 1, wasmBinary: await unpack("wasm") });
  const data = await unpack("weights"), externalData = [{ path: "weights.bin", data }];
  const sessions = {};
  for (const head of heads) {
    sessions[head] = await ort.InferenceSession.create(await unpack(head), { externalData });
  }
  const tokenize = table && tokenizer(table, vocabulary);
  const run = async (head, inputs) => (await sessions[head].run(inputs))[`${head}_logits`];

  async function askImage(file) {
    const pixels = await view(file, settings.image), { size } = settings.image;
    URL.revokeObjectURL(find("preview").src);
    find("preview").src = URL.createObjectURL(file);
    const images = new ort.Tensor("uint8", pixels, [1, size, size, 3]);
    const { data } = await run("image", { images });
    show(find("image_answers"), likeliest(data, settings.image.classes));
  }

  async function askText() {
    const texts = [find("text").value, find("pair").value].filter((text, i) => !i || text);
    const fills = heads.includes("mlm") && (texts.join().includes(MASK) || !heads.includes("text"));
    const { ids, segments, mask, whole } = tokenize(texts, fills, settings.text.max_length);
    const places = [...ids.keys()].filter((place) => ids[place] === mask);
    const masks = texts.join("\n").split(MASK).length - 1;
    if (fills && (!masks || places.length < masks)) throw Error(`Write ${MASK} in place of a word, early in the text.`);
    if (ids.length < whole) {
      const note = document.createElement("p");
      note.textContent = `Its end is cut off: ${whole} tokens, and the model takes ${ids.length}.`;
      find("text_answers").append(note);
    }
    const tensor = (values) => new ort.Tensor("int32", Int32Array.from(values), [1, ids.length]);
    const padding_mask = tensor(ids.map(() => 1));
    const inputs = { token_ids: tensor(ids), segment_ids: tensor(segments), padding_mask };
    const { data, dims } = await run(fills ? "mlm" : "text", inputs);
    if (!fills) return show(find("text_answers"), likeliest(data, settings.text.classes));
    for (const [number, place] of places.entries()) {
      const logits = data.subarray(place * dims[2], (place + 1) * dims[2]);
      show(find("text_answers"), likeliest(logits, vocabulary), `${MASK} ${number + 1}`);
    }
  }

  const ask = (answers, question) => async (event) => {
    event.preventDefault();
    find(answers).replaceChildren();
    find(answers).before(find("status"));
    find("status").textContent = "Asking …";
    const begin = performance.now();
    try {
      await question(event);
      find("status").textContent = `Answered in ${Math.round(performance.now() - begin)} ms.`;
    } catch (error) {
      find("status").textContent = `No answer: ${error.message}`;
    }
  };
  find("file").addEventListener("change", ask("image_answers", ({ target }) => askImage(target.files[0])));
  find("image").addEventListener("dragover", (event) => event.preventDefault());
  find("image").addEventListener("drop", ask("image_answers", (event) => askImage(event.dataTransfer.files[0])));
  find("form").addEventListener("submit", ask("text_answers", askText));
  find("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    find("form").requestSubmit();
  });
  find("image").hidden = !heads.includes("image");
  find("texts").hidden = !heads.includes("text") && !heads.includes("mlm");
  find("status").textContent = "Ready.";
}

if (globalThis.document) {
  start().catch((error) => (find("status").textContent = `The model cannot be opened: ${error.message}`));
}
