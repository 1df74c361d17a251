// Data come as scripts that call `imagecotView(name, value)`; each is loaded once, when it is needed.
const arrived = new Map();
const expected = new Map();
const trusted = window.trustedTypes
  ? window.trustedTypes.createPolicy("data", {
      createScriptURL: (address) => {
        if (!/^data\/(page|list-[0-9]{1,6}|told-[0-9]{1,6})\.js$/.test(address))
          throw new TypeError("no data of this page");
        return address;
      },
    })
  : null;

Object.defineProperty(window, "imagecotView", {
  value: (name, value) => {
    arrived.set(name, value);
  },
});

function load(name) {
  if (!expected.has(name)) {
    expected.set(
      name,
      new Promise((resolve, reject) => {
        const address = `data/${name}.js`;
        const node = document.createElement("script");
        node.onload = () =>
          arrived.has(name) ? resolve(arrived.get(name)) : reject(new Error(`${address} holds no data`));
        node.onerror = () => {
          expected.delete(name);
          reject(new Error(`${address} cannot be loaded; is the whole folder there?`));
        };
        node.src = trusted ? trusted.createScriptURL(address) : address;
        document.head.append(node);
      }),
    );
  }
  return expected.get(name);
}

const page = { prompts: [], methods: [], sources: [], curves: [], told: 10 };

async function open() {
  const told = await load("page");
  Object.assign(page, told, { prompts: [] });
  const parts = Math.ceil(told.prompts / told.listed);
  for (let first = 0; first < parts; first += 8) {
    const names = Array.from({ length: Math.min(8, parts - first) }, (_, k) => `list-${first + k}`);
    for (const part of await Promise.all(names.map(load))) page.prompts.push(...part);
  }
  page.prompts.forEach((prompt, number) => {
    prompt.number = number;
    prompt.key = `${prompt.prompt}\n${prompt.task}`.toLowerCase();
  });
}

async function told(number) {
  const part = await load(`told-${Math.floor(number / page.told)}`);
  return part[number % page.told];
}

function methodName(k) {
  const method = page.methods[k];
  if (!method) return "";
  const namesakes = page.methods.filter((other) => other.label === method.label).length;
  return namesakes > 1 ? `${method.label} (${page.sources[method.source].name})` : method.label;
}
