// A browser to be told what to do, without a library: Chromium speaks its DevTools protocol on two pipes.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** The first browser that is there. */
export function findBrowser() {
    const directories = (process.env.PATH ?? "").split(":");
    const paths = NAMES.flatMap((name) => directories.map((directory) => join(directory, name)));
    return process.env.CHROMIUM ?? paths.find((path) => existsSync(path));
}

export class Browser {
    constructor(path) {
        this.profile = mkdtempSync(join(tmpdir(), "cooperage-browser-"));
        const options = [
            "--headless=new",
            "--remote-debugging-pipe",
            `--user-data-dir=${this.profile}`,
            "--no-first-run",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--hide-scrollbars",
            "--force-device-scale-factor=1",
        ];
        if (process.getuid?.() === 0) {
            options.push("--no-sandbox"); // it refuses to have one as root
        }
        this.process = spawn(path, options, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
        this.waiting = new Map();
        this.listeners = new Map();
        this.number = 0;
        let text = "";
        this.process.stdio[4].setEncoding("utf8");
        this.process.stdio[4].on("data", (data) => {
            const parts = (text + data).split("\0");
            text = parts.pop();
            parts.forEach((part) => this.hear(JSON.parse(part)));
        });
        this.process.on("exit", () => {
            this.waiting.forEach(({ fail }) => fail(new Error("the browser has ended")));
        });
    }

    hear(message) {
        if (message.id) {
            const { done, fail } = this.waiting.get(message.id);
            this.waiting.delete(message.id);
            if (message.error) {
                fail(new Error(message.error.message));
            } else {
                done(message.result);
            }
        } else {
            this.listeners.get(message.sessionId)?.(message.method, message.params);
        }
    }

    send(method, params = {}, sessionId = undefined) {
        this.number += 1;
        const id = this.number;
        this.process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
        return new Promise((done, fail) => this.waiting.set(id, { done, fail }));
    }

    async open() {
        const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
        const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
        const tab = new Tab(this, sessionId);
        this.listeners.set(sessionId, (method, params) => tab.hear(method, params));
        for (const domain of ["Page", "Runtime", "Log", "Network"]) {
            await tab.send(`${domain}.enable`);
        }
        return tab;
    }

    async close() {
        const gone = new Promise((done) => this.process.on("exit", done));
        this.send("Browser.close").catch(() => {});
        await gone;
        rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
    }
}

/** One page of the browser. */
class Tab {
    constructor(browser, session) {
        this.browser = browser;
        this.session = session;
        this.faults = [];
        this.requests = [];
        this.loaded = () => {};
    }

    send(method, params) {
        return this.browser.send(method, params, this.session);
    }

    hear(method, params) {
        if (method === "Page.loadEventFired") {
            this.loaded();
        } else if (method === "Runtime.exceptionThrown") {
            this.faults.push(`error: ${params.exceptionDetails.exception?.description ?? params.exceptionDetails.text}`);
        } else if (method === "Runtime.consoleAPICalled" && ["error", "assert"].includes(params.type)) {
            this.faults.push(`console: ${params.args.map((value) => value.value ?? value.description).join(" ")}`);
        } else if (method === "Log.entryAdded" && params.entry.level === "error") {
            this.faults.push(`console: ${params.entry.text} ${params.entry.url ?? ""}`);
        } else if (method === "Network.requestWillBeSent") {
            this.requests.push(params.request.url);
        }
    }

    /** Opens an address, and waits until it is drawn. */
    async go(url) {
        this.faults = [];
        this.requests = [];
        const loaded = new Promise((done) => (this.loaded = done));
        await this.send("Page.navigate", { url });
        await loaded;
        await this.run("document.fonts.ready.then(() => true)");
    }

    /** What an expression in the page gives. */
    async run(expression) {
        const options = { expression, awaitPromise: true, returnByValue: true };
        const { result, exceptionDetails } = await this.send("Runtime.evaluate", options);
        if (exceptionDetails) {
            throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
        }
        return result.value;
    }

    /** The window's width in pixels, and whether the system prefers dark. */
    async look(width, dark) {
        const size = { width, height: 900, deviceScaleFactor: 1, mobile: false };
        await this.send("Emulation.setDeviceMetricsOverride", size);
        const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
        await this.send("Emulation.setEmulatedMedia", { features });
    }

    /** Clicks into the middle of an element. */
    async click(selector) {
        const middle = `(() => {
            const element = document.querySelector(${JSON.stringify(selector)});
            element.scrollIntoView({ block: "center", behavior: "instant" });
            const box = element.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        })()`;
        const [x, y] = await this.run(middle);
        for (const type of ["mousePressed", "mouseReleased"]) {
            await this.send("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
        }
    }

    /** Presses keys: names such as "Tab", or a text's letters. */
    async press(...keys) {
        const codes = { Tab: 9, Enter: 13, " ": 32, ArrowDown: 40, ArrowUp: 38, ArrowRight: 39, ArrowLeft: 37 };
        for (const key of keys) {
            const text = key === "Enter" ? "\r" : key.length === 1 ? key : undefined;
            const windowsVirtualKeyCode = codes[key] ?? key.toUpperCase().charCodeAt(0);
            await this.send("Input.dispatchKeyEvent", { type: "keyDown", key, text, windowsVirtualKeyCode });
            await this.send("Input.dispatchKeyEvent", { type: "keyUp", key, windowsVirtualKeyCode });
        }
    }

    /** Waits until an expression in the page is true. */
    async until(expression) {
        for (let tries = 0; tries < 200; tries += 1) {
            if (await this.run(`Boolean(${expression})`)) {
                return true;
            }
            await new Promise((done) => setTimeout(done, 25));
        }
        return false;
    }

    /** The whole page as a picture. */
    async picture() {
        const { cssContentSize } = await this.send("Page.getLayoutMetrics");
        const { width, height } = cssContentSize;
        const clip = { x: 0, y: 0, width, height: Math.min(height, 16000), scale: 1 };
        const { data } = await this.send("Page.captureScreenshot", { clip, captureBeyondViewport: true });
        return Buffer.from(data, "base64");
    }
}
