// What the overlay of the book's chapter 3 says that an overlay does, for tests/overlay.rs to try on a real one.
//
//     node tests/overlay/cases.mjs            writes tests/overlay/cases.json
//     node tests/overlay/cases.mjs --check    says whether it is what book/js/overlay-lab.js says

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Overlay, IMAGE } = createRequire(import.meta.url)("../../book/js/overlay-lab.js");
const file = new URL("cases.json", import.meta.url);

// The story that the page tells, and what is easily got wrong.
const chosen = [
    [["write", "etc/motd", "a"], ["write", "etc/motd", "b"]],
    [["write", "etc/notes", "a"], ["remove", "etc/notes"]],
    [["remove", "etc/hosts"], ["write", "etc/hosts", "a"], ["remove", "etc/hosts"]],
    [["remove", "etc"], ["mkdir", "etc"], ["write", "etc/motd", "a"], ["remove", "etc/motd"], ["remove", "etc"]],
    [["remove", "etc/motd"], ["mkdir", "etc/motd"], ["write", "etc/motd/a", "a"]],
    [["rename", "bin/sh", "bin/ash"], ["rename", "bin/ash", "bin/sh"]],
    [["rename", "etc", "old"], ["mkdir", "etc"], ["rename", "etc", "new"], ["rename", "old", "etc"]],
    [["remove", "srv"], ["mkdir", "other"], ["write", "other/a", "a"], ["rename", "other", "srv"]],
    [["mkdir", "srv/a"], ["write", "srv/a/b", "b"], ["rename", "srv/a", "etc/a"], ["remove", "srv"]],
    [["rename", "etc/motd", "bin/motd"], ["remove", "bin/motd"], ["write", "etc/motd", "again"]],
];

// And any others. A sequence of numbers that is the same each time: the file must not change by itself.
let seed = 20261123;
const random = (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
};
const pick = (list) => list[random(list.length)];
const NAMES = ["etc", "motd", "hosts", "bin", "sh", "srv", "a", "b"];

function anyCase() {
    const overlay = new Overlay(IMAGE);
    const steps = [];
    while (steps.length < 9) {
        const merged = overlay.merged();
        const directories = ["", ...merged.filter((path) => overlay.look(path).kind === "dir")];
        const place = pick(directories);
        const fresh = place === "" ? pick(NAMES) : `${place}/${pick(NAMES)}`;
        if (fresh.split("/").length > 4) {
            continue;
        }
        const some = pick(["write", "write", "mkdir", "remove", "rename", "overwrite"]);
        const step = {
            write: ["write", fresh, `w${steps.length}`],
            overwrite: ["write", pick(merged), `o${steps.length}`],
            mkdir: ["mkdir", fresh],
            remove: ["remove", pick(merged)],
            rename: ["rename", pick(merged), fresh],
        }[some];
        if (step.includes(undefined)) {
            continue;
        }
        const [name, ...words] = step;
        overlay[name](...words);
        steps.push(step);
    }
    return steps;
}

const sequences = [...chosen];
for (let count = 0; count < 24; count += 1) {
    sequences.push(anyCase());
}
const cases = sequences.map((steps) => {
    const overlay = new Overlay(IMAGE);
    return steps.map(([name, ...words]) => {
        const { error } = overlay[name](...words);
        return { step: [name, ...words], error, ...overlay.state() };
    });
});
const lower = IMAGE.map(([path, entry]) => [entry.kind, path, entry.text ?? ""]);
const lines = cases.map((steps) => `    ${JSON.stringify(steps)}`);
const text = `{\n  "lower": ${JSON.stringify(lower)},\n  "cases": [\n${lines.join(",\n")}\n  ]\n}\n`;
if (process.argv.includes("--check")) {
    if (readFileSync(file, "utf8") !== text) {
        console.error("tests/overlay/cases.json is not what book/js/overlay-lab.js says: run node tests/overlay/cases.mjs");
        process.exit(1);
    }
} else {
    writeFileSync(file, text);
}
