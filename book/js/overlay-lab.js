// An overlay to write to and delete from: chapter 3 shows it where the page has <div id="overlay-lab">.
//
// The first half is the rules of an overlay mount, without a page. tests/overlay.rs holds them against what the kernel
// does: see tests/overlay/cases.mjs. The second half is what the reader sees.
"use strict";

/**
 * An overlay of one lower directory, and of an upper one that is empty at first.
 *
 * A path is "etc/motd", and the root "". An entry is { kind: "file", text }, { kind: "dir" }, and in the upper directory
 * also { kind: "dir", opaque: true } and { kind: "whiteout" }.
 */
class Overlay {
    constructor(lower) {
        this.lower = new Map(lower);
        this.upper = new Map();
    }

    /** The directory that a path is in. */
    static parent(path) {
        return path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
    }

    /** Does the lookup of this path get as far as the lower directory, and is something there? */
    reachesLower(path) {
        if (!this.lower.has(path)) {
            return false;
        }
        for (let above = path; above !== ""; ) {
            above = Overlay.parent(above);
            const entry = this.upper.get(above);
            if (entry && (entry.kind !== "dir" || entry.opaque)) {
                return false;
            }
        }
        return true;
    }

    /** What the merged directory has at this path. */
    look(path) {
        if (path === "") {
            return { kind: "dir" };
        }
        // Upper first. What is there decides, except that a directory has the lower one's names too.
        const entry = this.upper.get(path);
        if (entry) {
            return entry.kind === "whiteout" ? undefined : entry;
        }
        return this.reachesLower(path) ? this.lower.get(path) : undefined;
    }

    /** All paths of the merged directory, sorted. */
    merged() {
        const paths = new Set([...this.upper.keys(), ...this.lower.keys()]);
        return [...paths].filter((path) => this.look(path)).sort();
    }

    /** The paths below one, in the merged directory. */
    below(path) {
        return this.merged().filter((other) => other.startsWith(path + "/"));
    }

    /** Copies to the upper directory what is only in the lower, with the directories that it is in. */
    copyUp(path, done) {
        if (path === "" || this.upper.has(path)) {
            return;
        }
        this.copyUp(Overlay.parent(path), done);
        this.upper.set(path, { ...this.lower.get(path) });
        done.copied.push(path);
    }

    /** Takes an entry out of the upper directory, and hides what is below it in the lower. */
    takeAway(path, done) {
        for (const other of [...this.upper.keys()]) {
            if (other === path || other.startsWith(path + "/")) {
                this.upper.delete(other);
            }
        }
        if (this.reachesLower(path)) {
            this.copyUp(Overlay.parent(path), done);
            this.upper.set(path, { kind: "whiteout" });
            done.hidden.push(path);
        }
    }

    /** Puts a new directory into the upper one: opaque, if the lower one's names would show through. */
    makeDirectory(path, done) {
        this.copyUp(Overlay.parent(path), done);
        const hides = this.upper.has(path); // a whiteout: nothing else can be there
        this.upper.set(path, hides ? { kind: "dir", opaque: true } : { kind: "dir" });
        if (hides) {
            done.opaque.push(path);
        }
    }

    static nothingDone() {
        return { copied: [], hidden: [], opaque: [], error: "" };
    }

    /** echo text > path */
    write(path, text) {
        const done = Overlay.nothingDone();
        const found = this.look(path);
        if (this.look(Overlay.parent(path))?.kind !== "dir") {
            done.error = "ENOENT";
        } else if (found?.kind === "dir") {
            done.error = "EISDIR";
        } else {
            this.copyUp(found ? path : Overlay.parent(path), done);
            this.upper.set(path, { kind: "file", text });
        }
        return done;
    }

    /** mkdir path */
    mkdir(path) {
        const done = Overlay.nothingDone();
        if (this.look(Overlay.parent(path))?.kind !== "dir") {
            done.error = "ENOENT";
        } else if (this.look(path)) {
            done.error = "EEXIST";
        } else {
            this.makeDirectory(path, done);
        }
        return done;
    }

    /** rm -r path */
    remove(path) {
        const done = Overlay.nothingDone();
        if (path === "" || !this.look(path)) {
            done.error = path === "" ? "EBUSY" : "ENOENT";
        } else {
            this.takeAway(path, done);
        }
        return done;
    }

    /** mv from to, where nothing is at `to` */
    rename(from, to) {
        const done = Overlay.nothingDone();
        const found = this.look(from);
        if (!found || this.look(Overlay.parent(to))?.kind !== "dir") {
            done.error = "ENOENT";
        } else if (this.look(to)) {
            done.error = "EEXIST";
        } else if (from === "" || to.startsWith(from + "/")) {
            done.error = "EINVAL";
        } else if (found.kind === "file") {
            this.copyUp(from, done);
            const moved = this.upper.get(from);
            this.copyUp(Overlay.parent(to), done);
            this.takeAway(from, done);
            this.upper.set(to, moved);
        } else if (this.upper.has(from) && (found.opaque || !this.reachesLower(from))) {
            // It is all in the upper directory: one rename there.
            const moved = [...this.upper].filter(([path]) => path.startsWith(from + "/"));
            this.takeAway(from, done);
            this.makeDirectory(to, done);
            for (const [path, entry] of moved) {
                this.upper.set(to + path.slice(from.length), entry);
            }
        } else {
            // rename(2) of a directory that is in the lower one too fails with EXDEV, and mv copies it.
            done.copiedByMv = true;
            const names = this.below(from).map((path) => [path, this.look(path)]);
            this.makeDirectory(to, done);
            for (const [path, entry] of names) {
                const copy = entry.kind === "dir" ? { kind: "dir" } : { ...entry };
                this.upper.set(to + path.slice(from.length), copy);
            }
            this.takeAway(from, done);
        }
        return done;
    }

    /** What is in the three directories, a line for each entry. */
    state() {
        const line = ([path, entry]) => {
            const kind = entry.opaque ? "opaque" : entry.kind;
            return entry.kind === "file" ? `${kind} ${path} ${entry.text}` : `${kind} ${path}`;
        };
        const seen = this.merged().map((path) => {
            const { kind, text } = this.look(path);
            return [path, { kind, text }];
        });
        return { upper: [...this.upper].map(line).sort(), merged: seen.map(line).sort() };
    }
}

/** What is in the lower directory when the reader begins. */
const IMAGE = [
    ["bin", { kind: "dir" }],
    ["bin/sh", { kind: "file", text: "a shell" }],
    ["etc", { kind: "dir" }],
    ["etc/hosts", { kind: "file", text: "localhost" }],
    ["etc/motd", { kind: "file", text: "welcome" }],
    ["srv", { kind: "dir" }],
];

/** What the reader sees. */
class OverlayLab {
    constructor(place) {
        this.overlay = new Overlay(IMAGE);
        this.chosen = "etc/motd";
        this.writes = 0;
        this.build(place);
        this.show();
        this.say("Choose a file or a directory of the merged view, and do something to it.", "");
    }

    build(place) {
        const make = (tag, name, text) => {
            const element = document.createElement(tag);
            if (name) {
                element.className = name;
            }
            if (text) {
                element.textContent = text;
            }
            return element;
        };
        // What the page says without this program stays, folded.
        const words = make("details", "overlay-words");
        words.append(make("summary", "", "The same in words"));
        words.append(...place.childNodes);

        const lab = make("div", "overlay-lab");
        lab.setAttribute("role", "group");
        lab.setAttribute("aria-label", "An overlay to write to");
        const columns = make("div", "overlay-columns");
        const column = (title, note) => {
            const section = make("section");
            section.append(make("h4", "", title), make("p", "overlay-note", note));
            columns.append(section);
            return section;
        };
        const merged = column("merged", "what the container sees");
        this.choice = make("div", "overlay-list");
        this.choice.setAttribute("role", "radiogroup");
        this.choice.setAttribute("aria-label", "merged view");
        merged.append(this.choice);
        const list = (section) => {
            const element = make("ul", "overlay-list");
            section.append(element);
            return element;
        };
        this.upperList = list(column("upper", "what the container has changed"));
        this.lowerList = list(column("lower", "the image, only read"));

        const actions = make("div", "overlay-actions");
        this.buttons = {};
        const button = (name, text, act) => {
            const element = make("button", "", text);
            element.type = "button";
            element.dataset.act = name;
            element.addEventListener("click", act);
            this.buttons[name] = element;
            actions.append(element);
        };
        button("write", "Write to it", () => this.write(this.chosen));
        button("remove", "Delete it", () => this.remove());
        const label = make("label", "", "name ");
        this.name = make("input");
        this.name.type = "text";
        this.name.value = "notes";
        this.name.size = 10;
        this.name.autocomplete = "off";
        this.name.spellcheck = false;
        label.append(this.name);
        actions.append(label);
        button("rename", "Rename it to this", () => this.rename());
        button("file", "New file", () => this.write(this.named()));
        button("mkdir", "New directory", () => this.mkdir());
        button("again", "Start again", () => this.again());

        this.command = make("code", "overlay-command");
        this.said = make("p", "overlay-said");
        this.said.setAttribute("role", "status");
        this.said.setAttribute("aria-live", "polite");
        lab.append(columns, actions, this.command, this.said);
        // The book's own keys turn pages and open the search.
        lab.addEventListener("keydown", (event) => event.stopPropagation());
        lab.addEventListener("keypress", (event) => event.stopPropagation());
        place.replaceChildren(lab, words);
        place.dataset.ready = "yes";
    }

    /** The directory in which something new is made. */
    directory() {
        return this.overlay.look(this.chosen)?.kind === "dir" ? this.chosen : Overlay.parent(this.chosen);
    }

    named(directory = this.directory()) {
        const name = this.name.value.trim();
        return directory === "" ? name : `${directory}/${name}`;
    }

    /** False, and the reason is said, if the name can't be a name. */
    hasName() {
        const name = this.name.value.trim();
        const fine = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,30}$/.test(name);
        if (!fine) {
            this.say("The name can have letters, digits, dots and dashes.", "");
        }
        return fine;
    }

    write(path) {
        if (path !== this.chosen && !this.hasName()) {
            return;
        }
        const before = this.overlay.look(path);
        const was = this.overlay.upper.get(path)?.kind;
        this.writes += 1;
        const text = `written, ${this.writes}`;
        const done = this.overlay.write(path, text);
        let story = "The file is new: it is in upper.";
        if (done.copied.includes(path)) {
            story = "The file was only in lower. The kernel first copied it up, and then you wrote to the copy.";
        } else if (was === "whiteout") {
            story = "The new file takes the whiteout's place in upper. The file in lower stays hidden.";
        } else if (before) {
            story = "The file was in upper already, so it was written there. Nothing else has changed.";
        }
        this.done(done, `echo "${text}" > merged/${path}`, story, path);
    }

    mkdir() {
        if (this.hasName()) {
            const path = this.named();
            const done = this.overlay.mkdir(path);
            const story = done.opaque.length
                ? "The directory takes the whiteout's place in upper. It is marked opaque: else the names in lower would be back."
                : "The directory is new: it is in upper.";
            this.done(done, `mkdir merged/${path}`, story, path);
        }
    }

    remove() {
        const path = this.chosen;
        const done = this.overlay.remove(path);
        const story = done.hidden.includes(path)
            ? "Lower can't be written, so a whiteout in upper hides what is there."
            : "It was only in upper. It is gone, and there is nothing to hide.";
        this.done(done, `rm -r merged/${path}`, story, Overlay.parent(path) || this.overlay.merged()[0] || "");
    }

    rename() {
        if (this.hasName()) {
            const from = this.chosen;
            const to = this.named(Overlay.parent(from));
            const done = this.overlay.rename(from, to);
            let story = "It was only in upper, and has another name there.";
            if (done.copiedByMv) {
                story = "rename(2) of a directory that lower has too fails with EXDEV, so mv copied all of it and deleted the old one: a whiteout.";
            } else if (done.copied.includes(from)) {
                story = "The file was copied up, and the copy renamed. A whiteout hides the old name in lower.";
            } else if (done.hidden.includes(from)) {
                story = "It was renamed in upper. A whiteout hides the old name in lower.";
            }
            this.done(done, `mv merged/${from} merged/${to}`, story, to);
        }
    }

    again() {
        this.overlay = new Overlay(IMAGE);
        this.chosen = "etc/motd";
        this.writes = 0;
        this.show();
        this.say("Upper is empty again, as in a new container.", "");
    }

    done(done, command, story, chosen) {
        const errors = {
            ENOENT: "There is no such file or directory.",
            EEXIST: "There is something of that name already.",
            EISDIR: "It is a directory: that can't be written to.",
            EBUSY: "The root of the overlay can't be deleted.",
            EINVAL: "A directory can't be moved into itself.",
        };
        if (done.error) {
            this.say(`${done.error}: ${errors[done.error]}`, command);
            return;
        }
        const directories = done.copied.filter((path) => this.overlay.lower.get(path)?.kind === "dir");
        const also = directories.length ? ` The directory ${directories.join(", ")} was copied up for it.` : "";
        this.chosen = this.overlay.look(chosen) ? chosen : this.overlay.merged()[0] || "";
        this.show();
        this.say(`${story}${also} Lower is as it was.`, command);
    }

    say(text, command) {
        this.said.textContent = text;
        this.command.textContent = command ? `$ ${command}` : "\u00a0";
    }

    show() {
        const overlay = this.overlay;
        const label = (path, entry) => {
            const depth = path.split("/").length - 1;
            const name = path.split("/").pop() + (entry.kind === "dir" ? "/" : "");
            return { depth, name };
        };
        const row = (tag, path, entry, note, kind) => {
            const element = document.createElement(tag);
            const { depth, name } = label(path, entry);
            element.style.paddingInlineStart = `${depth * 1.2}em`;
            element.dataset.path = path;
            const code = document.createElement("code");
            code.textContent = name;
            element.append(code);
            if (kind) {
                element.classList.add(kind);
            }
            if (note) {
                const small = document.createElement("small");
                small.textContent = ` ${note}`;
                element.append(small);
            }
            return element;
        };

        const paths = overlay.merged();
        this.choice.replaceChildren(
            ...paths.map((path) => {
                const entry = overlay.look(path);
                const inUpper = overlay.upper.has(path);
                const both = inUpper && entry.kind === "dir" && !entry.opaque && overlay.reachesLower(path);
                const from = both ? "from both" : inUpper ? "from upper" : "from lower";
                const text = entry.kind === "file" ? `“${entry.text}”, ${from}` : from;
                const element = row("label", path, entry, text, "");
                const radio = document.createElement("input");
                radio.type = "radio";
                radio.name = "overlay-choice";
                radio.value = path;
                radio.checked = path === this.chosen;
                radio.addEventListener("change", () => {
                    this.chosen = path;
                    this.ready();
                });
                element.prepend(radio);
                return element;
            }),
        );
        const notes = { whiteout: "whiteout: hides the name below", opaque: "opaque: hides all that is below" };
        const upper = [...overlay.upper].sort(([one], [other]) => (one < other ? -1 : 1));
        this.upperList.replaceChildren(
            ...upper.map(([path, entry]) => {
                const kind = entry.opaque ? "opaque" : entry.kind;
                const text = entry.kind === "file" ? `“${entry.text}”` : notes[kind];
                return row("li", path, entry, text, kind);
            }),
        );
        if (upper.length === 0) {
            const empty = document.createElement("li");
            empty.textContent = "(empty)";
            this.upperList.append(empty);
        }
        this.lowerList.replaceChildren(
            ...[...overlay.lower].map(([path, entry]) => {
                const covered = entry.kind === "file" && overlay.upper.has(path);
                const hidden = covered || !overlay.reachesLower(path) || overlay.upper.get(path)?.kind === "whiteout";
                const text = entry.kind === "file" ? `“${entry.text}”` : "";
                const note = hidden ? `${text} hidden`.trim() : text;
                return row("li", path, entry, note, hidden ? "hidden-below" : "");
            }),
        );
        this.ready();
    }

    /** A button that can do nothing says so. */
    ready() {
        const found = this.overlay.look(this.chosen);
        this.buttons.write.disabled = !found || found.kind === "dir";
        this.buttons.remove.disabled = !found || this.chosen === "";
        this.buttons.rename.disabled = !found || this.chosen === "";
    }
}

if (typeof document !== "undefined") {
    const place = document.getElementById("overlay-lab");
    if (place) {
        new OverlayLab(place);
    }
}
if (typeof module !== "undefined") {
    module.exports = { Overlay, IMAGE };
}
