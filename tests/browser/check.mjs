// Opens every page of the built book in a browser: in light and dark, wide and narrow.
//
//     node tests/browser/check.mjs target/book                          all that must hold
//     node tests/browser/check.mjs target/book --pictures DIR 05-       and pictures of these pages, to be looked at
//
// There must be no error and no request to another host, nothing that has to be scrolled sideways, no picture that is
// clipped or too small to read; every link leads somewhere; search finds; and the overlay works by mouse and keyboard.

import { createServer } from "node:http";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { extname, join, normalize } from "node:path";

import { Browser, findBrowser } from "./chromium.mjs";

const [book, ...rest] = process.argv.slice(2);
const picturesTo = rest[0] === "--pictures" ? rest[1] : undefined;
const wanted = picturesTo ? rest.slice(2) : rest;
if (!book || !existsSync(join(book, "index.html"))) {
    console.error("usage: node tests/browser/check.mjs BOOK [--pictures DIR] [PAGE...]; BOOK is what `mdbook build` made");
    process.exit(2);
}
const program = findBrowser();
if (!program) {
    console.error("no Chromium is installed (Debian, Ubuntu: apt install chromium); CHROMIUM=/path/to/it names another");
    process.exit(2);
}

const KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".png": "image/png",
};
const server = createServer((request, answer) => {
    const path = join(book, normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname)));
    if (!existsSync(path)) {
        answer.writeHead(404).end();
        return;
    }
    answer.writeHead(200, { "content-type": KINDS[extname(path)] ?? "application/octet-stream" });
    answer.end(readFileSync(path));
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const origin = `http://127.0.0.1:${server.address().port}`;

const chosen = (page) => wanted.length === 0 || wanted.some((word) => page.includes(word));
const notPages = ["print.html", "toc.html", "404.html", "index.html"];
const pages = readdirSync(book).filter((name) => name.endsWith(".html") && !notPages.includes(name) && chosen(name));
const faults = new Set();
const fault = (where, what) => faults.add(`${where}: ${what}`);
const ids = new Map();
const links = [];

/** Runs in the page: what is wrong with how it is laid out. */
function layout() {
    const faults = [];
    const width = document.documentElement.clientWidth;
    const says = (element) => {
        const text = element.textContent.trim().replace(/\s+/g, " ").slice(0, 50);
        return `<${element.tagName.toLowerCase()}> "${text}"`;
    };
    if (document.scrollingElement.scrollWidth > width) {
        faults.push(`it scrolls sideways: ${document.scrollingElement.scrollWidth} px in ${width}`);
    }
    const scrolls = (element) => {
        for (let above = element; above && above.tagName !== "MAIN"; above = above.parentElement) {
            if (["auto", "scroll", "hidden"].includes(getComputedStyle(above).overflowX)) {
                return true;
            }
        }
        return false;
    };
    for (const element of document.querySelectorAll("main *")) {
        if (!element.closest("svg") && element.getBoundingClientRect().right > width + 1 && !scrolls(element)) {
            faults.push(`${says(element)} sticks out on the right`);
        }
    }
    for (const image of document.querySelectorAll("main img")) {
        if (!image.complete || image.naturalWidth === 0) {
            faults.push(`the image ${image.src} is not drawn`);
        }
    }
    for (const figure of document.querySelectorAll("main figure")) {
        const svg = figure.querySelector("svg");
        const name = svg?.querySelector("title")?.textContent ?? figure.textContent.trim();
        const box = svg?.getBoundingClientRect();
        if (!box || box.width < 150 || box.height < 40) {
            faults.push(`the picture "${name}" is not drawn`);
            continue;
        }
        const frame = svg.viewBox.baseVal;
        const scale = box.width / frame.width;
        const texts = [...svg.querySelectorAll("text")];
        for (const text of texts) {
            const place = text.getBoundingClientRect();
            const size = parseFloat(getComputedStyle(text).fontSize) * scale;
            if (place.left < box.left - 1 || place.right > box.right + 1 || place.top < box.top - 1 || place.bottom > box.bottom + 1) {
                faults.push(`the picture "${name}": ${says(text)} is outside of it`);
            }
            if (size < 7) {
                faults.push(`the picture "${name}": ${says(text)} is ${size.toFixed(1)} px high`);
            }
        }
        const boxes = texts.map((text) => text.getBoundingClientRect());
        for (let one = 0; one < boxes.length; one += 1) {
            for (let other = one + 1; other < boxes.length; other += 1) {
                const [a, b] = [boxes[one], boxes[other]];
                const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (across > 2 && down > Math.min(a.height, b.height) / 3) {
                    faults.push(`the picture "${name}": ${says(texts[one])} and ${says(texts[other])} overlap`);
                }
            }
        }
    }
    return faults;
}

/** Runs in the page: where its links lead, and which ids it has. */
function anchors() {
    const all = [...document.querySelectorAll("main a[href], nav a[href]")];
    const twice = (id, index, ids) => ids.indexOf(id) !== index;
    const ids = [...document.querySelectorAll("main [id]")].map((element) => element.id);
    return { links: all.map((link) => link.href), ids, twice: ids.filter(twice) };
}

async function look(tab, page, width, dark) {
    const where = `${page} (${width} px, ${dark ? "dark" : "light"})`;
    await tab.look(width, dark);
    await tab.go(`${origin}/${page}`);
    const theme = await tab.run("document.documentElement.className");
    if (theme.includes("navy") !== dark) {
        fault(where, `it is shown in the theme ${theme}`);
    }
    (await tab.run(`(${layout})()`)).forEach((found) => fault(where, found));
    const found = await tab.run(`(${anchors})()`);
    ids.set(page, new Set(found.ids));
    found.twice.forEach((id) => fault(page, `two elements have the id ${id}`));
    links.push(...found.links.map((link) => [page, link]));
    tab.faults.forEach((found) => fault(where, found));
    for (const url of tab.requests) {
        if (!url.startsWith(origin) && !url.startsWith("data:") && !url.startsWith("blob:")) {
            fault(where, `it asks another host: ${url}`);
        }
    }
    if (picturesTo) {
        const name = `${page.replace(".html", "")}-${width}-${dark ? "dark" : "light"}.png`;
        writeFileSync(join(picturesTo, name), await tab.picture());
    }
}

async function search(tab) {
    await tab.look(1280, false);
    await tab.go(`${origin}/preface.html`);
    await tab.click("#mdbook-search-toggle, #search-toggle");
    await tab.until("document.activeElement.tagName === 'INPUT'");
    await tab.press(..."pivot_root");
    const found = "[...document.querySelectorAll('#mdbook-searchresults a, #searchresults a')].some((a) => a.href.includes('03-mount'))";
    if (!(await tab.until(found))) {
        fault("search", "pivot_root is not found in chapter 3");
    }
    tab.faults.forEach((found) => fault("search", found));
}

async function overlay(tab, width) {
    const where = `03-mount.html, the overlay (${width} px)`;
    const must = async (expression, what) => {
        if (!(await tab.run(`Boolean(${expression})`))) {
            fault(where, what);
        }
    };
    const upper = "document.querySelector('.overlay-columns section:nth-child(2)').textContent";
    const said = "document.querySelector('.overlay-said').textContent";
    await tab.look(width, false);
    await tab.go(`${origin}/03-mount.html`);
    if (!(await tab.run("Boolean(document.querySelector('#overlay-lab[data-ready]'))"))) {
        fault(where, "it is not there");
        return;
    }
    // By mouse.
    await tab.click("[data-act=write]");
    await must(`${upper}.includes('motd') && ${said}.includes('copied it up')`, "a click on Write does nothing");
    await tab.click("input[value='etc/hosts']");
    await tab.click("[data-act=remove]");
    await must(`${upper}.includes('whiteout')`, "a click on Delete leaves no whiteout");
    await must("!document.querySelector('input[value=\"etc/hosts\"]')", "what is deleted is still in merged");
    await tab.click("[data-act=again]");
    await must(`${upper}.includes('(empty)')`, "a click on Start again does not empty upper");
    // By keyboard alone: from what is before it, to the chosen file, to its neighbour, to the button.
    await tab.run("document.querySelector('input[name=overlay-choice]:checked').focus()");
    await tab.press("ArrowUp");
    await must("document.activeElement.value === 'etc/hosts' && document.activeElement.checked", "an arrow key chooses nothing");
    await tab.press("ArrowLeft");
    await must("document.activeElement.value === 'etc'", "the left arrow chooses nothing");
    await must("location.pathname.endsWith('03-mount.html')", "an arrow key turns the page");
    await tab.press("Tab"); // Write can't be pressed for a directory
    await must("document.activeElement.dataset.act === 'remove'", "Tab does not lead to Delete");
    await tab.press("Enter");
    await must(`${upper}.includes('whiteout') && ${said}.includes('whiteout')`, "Enter on Delete does nothing");
    await must("document.activeElement.dataset.act === 'remove'", "the focus is lost");
    await tab.press("Tab");
    await tab.run("document.activeElement.select()");
    await tab.press(..."etc");
    await must("document.activeElement.value === 'etc'", "no name can be typed");
    await tab.run("document.querySelector('input[value=\"bin\"]').click()");
    await tab.run("document.querySelector('input[value=\"srv\"]').click()");
    await tab.press("Tab", "Tab", "Tab");
    await must("document.activeElement.dataset.act === 'mkdir'", "Tab does not lead to New directory");
    await tab.press(" ");
    await must(`${upper}.includes('etc')`, "Space on New directory does nothing");
    await must("document.querySelector('.overlay-said').getAttribute('aria-live') === 'polite'", "it is not read out");
    tab.faults.forEach((found) => fault(where, found));
    // Without JavaScript the words are there.
    await tab.send("Emulation.setScriptExecutionDisabled", { value: true });
    await tab.send("Page.reload");
    await new Promise((done) => setTimeout(done, 300));
    await tab.send("Emulation.setScriptExecutionDisabled", { value: false });
    const text = "document.querySelector('#overlay-lab').textContent";
    await must(`!document.querySelector('.overlay-lab') && ${text}.includes('copy-up') && ${text}.includes('opaque')`, "without JavaScript it says nothing");
}

function followLinks() {
    for (const [page, link] of links) {
        const url = new URL(link);
        if (url.origin !== origin) {
            continue;
        }
        const name = url.pathname.slice(1) || "index.html";
        const id = decodeURIComponent(url.hash.slice(1));
        if (!existsSync(join(book, name))) {
            fault(page, `the link to ${name} leads nowhere`);
        } else if (id && ids.has(name) && !ids.get(name).has(id)) {
            fault(page, `the link to ${name} has no #${id} there`);
        }
    }
}

if (picturesTo) {
    mkdirSync(picturesTo, { recursive: true });
}
const browser = new Browser(program);
const began = Date.now();
try {
    const work = pages.flatMap((page) => [1280, 400].flatMap((width) => [[page, width, false], [page, width, true]]));
    const worker = async () => {
        const tab = await browser.open();
        for (let next = work.shift(); next; next = work.shift()) {
            await look(tab, ...next);
        }
        return tab;
    };
    const [tab] = await Promise.all([worker(), worker()]);
    followLinks();
    if (chosen("search")) {
        await search(tab);
    }
    if (chosen("03-mount.html")) {
        await overlay(tab, 1280);
        await overlay(tab, 400);
    }
} finally {
    await browser.close();
    server.close();
}
console.log(`${pages.length} pages, each in 4 ways, in ${((Date.now() - began) / 1000).toFixed(1)} s`);
if (faults.size > 0) {
    console.error([...faults].join("\n"));
    process.exit(1);
}
