// The illustrated conversation, as a reader meets it: docs/conversation.html in Chromium, from the file and without a
// network. `npm ci && npm test` in this folder; CHROMIUM names another browser than /usr/bin/chromium, SHOTS a folder for
// screenshots.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";

const PAGE = new URL("../../docs/conversation.html", import.meta.url).href;
const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const DESK = { viewport: { width: 1280, height: 900 } };
const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true };

let browser;
before(async () => {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
});
after(() => browser?.close());

/** Opens the page, does something with it, and expects no complaint of a script and no request but the page itself. */
async function visit(options, act) {
  const context = await browser.newContext({ reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => complaints.push(message.text()));
  page.on("request", (request) => {
    const url = request.url();
    if (url.split("#")[0] !== PAGE && !url.startsWith("data:")) complaints.push(`a request for ${url}`);
  });
  try {
    await page.goto(PAGE);
    await act(page);
    assert.deepEqual(complaints, []);
  } finally {
    await context.close();
  }
}

const shot = async (page, name) => {
  if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${name}.png` });
};
/** The frame of this name: its number in the page, by which its ids begin. */
const numberOf = (page, name, nth = 0) =>
  page.locator(".unit > details", { has: page.locator(`summary b:text-is("${name}")`) }).nth(nth).getAttribute("id");
const open = (page, id) => page.locator(`#${id} > summary`).click();
/** The texts of what is lit: octets and fields. */
const lit = (page) => page.evaluate(() => ({
  octets: [...document.querySelectorAll(".octets .lit")].map((one) => one.textContent),
  fields: [...document.querySelectorAll("tr.lit th")].map((one) => one.textContent),
}));
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.parentElement.id);

describe("octets and fields", () => {
  const queue = { octets: ["09 72 70 63 5f 71 75 65 75 65"], fields: ["queue"] };
  const nothing = { octets: [], fields: [] };

  test("hovering one lights up the other", () => visit(DESK, async (page) => {
    const id = await numberOf(page, "queue.declare", 1);
    await open(page, id);
    await page.mouse.move(0, 0);
    assert.deepEqual(await lit(page), nothing);
    await page.locator(`#${id} .octets a`, { hasText: "09 72 70" }).hover();
    assert.deepEqual(await lit(page), queue);
    await shot(page, "hover");
    await page.locator(`#${id} tbody tr`, { hasText: "bits" }).hover();
    assert.deepEqual(await lit(page), { octets: ["02"], fields: ["bits"] });
    await page.locator(`#${id} .means`).hover();
    assert.deepEqual(await lit(page), nothing);
  }));

  test("focus does the same, and Enter leads to the counterpart and back", () => visit(DESK, async (page) => {
    const id = await numberOf(page, "queue.declare", 1);
    await open(page, id);
    await page.mouse.move(0, 0);
    await page.keyboard.press("Tab");
    assert.deepEqual(await lit(page), { octets: ["01"], fields: ["type"] });
    for (let step = 0; step < 5; step += 1) await page.keyboard.press("ArrowRight");
    assert.deepEqual(await lit(page), queue);
    assert.equal(await focused(page), `${id}o5`);
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), `${id}f5`);
    assert.deepEqual(await lit(page), queue);
    await page.keyboard.press("ArrowDown");
    assert.deepEqual(await lit(page), { octets: ["02"], fields: ["bits"] });
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), `${id}o6`);
    await page.keyboard.press("Escape");
    assert.equal(await focused(page), id);
    assert.deepEqual(await lit(page), nothing);
  }));

  test("every octet is in one field, in order, and as many as the frame says", () => visit(DESK, async (page) => {
    const wrong = await page.evaluate(() => [...document.querySelectorAll(".unit > details")].filter((frame) => {
      const groups = [...frame.querySelectorAll(".octets a")];
      const octets = groups.flatMap((group) => group.textContent.split(" "));
      const fields = frame.querySelectorAll("tbody th a");
      const there = (link) => document.getElementById(link.hash.slice(1)).hash === `#${link.id}`;
      const count = Number.parseInt(frame.querySelector(".count").textContent, 10);
      return octets.length !== count || groups.length !== fields.length || !groups.every(there)
        || !octets.every((octet) => /^[0-9a-f]{2}$/.test(octet));
    }).map((frame) => frame.id));
    assert.deepEqual(wrong, []);
  }));

  test("every frame says what it means, why, what comes next, and its rules; every field has a note", () =>
    visit(DESK, async (page) => {
      const wrong = await page.evaluate(() => [...document.querySelectorAll(".unit > details")].filter((frame) => {
        const texts = [frame.querySelector(".means"), ...frame.querySelectorAll(".about dd, .rules dd")];
        const rows = [...frame.querySelectorAll("tbody tr")];
        return texts.length < 4 || texts.some((text) => !text?.textContent.trim())
          || rows.some((row) => !row.querySelector(".note")?.textContent);
      }).map((frame) => `${frame.id} ${frame.querySelector("b").textContent}`));
      assert.deepEqual(wrong, []);
    }));
});

describe("keys", () => {
  test("arrows go from frame to frame, Enter opens", () => visit(DESK, async (page) => {
    await page.locator("#u1 > summary").focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    assert.equal(await focused(page), "u3");
    await page.keyboard.press("Enter");
    assert.ok(await page.locator("#u3 .means").isVisible());
    await page.keyboard.press("ArrowLeft");
    assert.ok(!await page.locator("#u3 .means").isVisible());
    await page.keyboard.press("ArrowRight");
    assert.ok(await page.locator("#u3 .means").isVisible());
    await page.keyboard.press("ArrowUp");
    assert.equal(await focused(page), "u2");
    await page.keyboard.press("Home");
    assert.equal(await focused(page), "u1");
    await page.keyboard.press("ArrowUp");
    assert.equal(await focused(page), "u1");
    await page.keyboard.press("End");
    assert.equal(await focused(page), await page.locator(".unit > details").last().getAttribute("id"));
  }));

  test("Tab passes an open frame in a few steps", () => visit(DESK, async (page) => {
    await page.locator("#u2 > summary").focus();
    await page.keyboard.press("Enter");
    const stops = [];
    for (let step = 0; step < 4; step += 1) {
      await page.keyboard.press("Tab");
      stops.push(await focused(page));
    }
    assert.deepEqual([stops[0], stops[1], stops[3]], ["u2o0", "u2f0", "u3"], "octets, fields, rules, the next frame");
  }));

  test("the first stop leads past the introduction", () => visit(DESK, async (page) => {
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    assert.equal(await focused(page), "u1");
  }));
});

describe("opening", () => {
  test("a link to a frame or a field opens it", () => visit(DESK, async (page) => {
    await page.goto(`${PAGE}#u5f3`);
    assert.ok(await page.locator("#u5 .means").isVisible());
    assert.equal(await focused(page), "u5f3");
  }));

  test("the picture of who speaks leads to the frame", () => visit(DESK, async (page) => {
    await page.locator('.overview a[href="#u20"] .head').click({ force: true });
    assert.ok(await page.locator("#u20 .means").isVisible());
  }));

  test("all at once, and on paper", () => visit(DESK, async (page) => {
    const count = () => page.locator(".unit > details[open]").count();
    const all = await page.locator(".unit > details").count();
    assert.ok(all > 55, `${all} frames`);
    await page.getByRole("button", { name: "Open all frames" }).click();
    assert.equal(await count(), all);
    await page.getByRole("button", { name: "Close all" }).click();
    assert.equal(await count(), 0);
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    assert.equal(await count(), all);
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
    assert.equal(await count(), 0);
    const pdf = await page.pdf();
    assert.ok(pdf.length > 200_000, `${pdf.length} octets on paper`);
  }));

  test("without scripts it can be read, and links lead from octets to fields", () =>
    visit({ ...DESK, javaScriptEnabled: false }, async (page) => {
      assert.ok(!await page.getByRole("button").count(), "no button that does nothing");
      await open(page, "u2");
      await page.locator("#u2o3").click();
      const background = (selector) => page.locator(selector).evaluate((one) => getComputedStyle(one).backgroundColor);
      assert.notEqual(await background("#u2f3"), await background("#u2f9"));
    }));
});

describe("everywhere", () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const [place, options] of [["desk", DESK], ["phone", PHONE]]) {
      test(`${colorScheme}, ${place}: fits, and axe finds nothing`, () =>
        visit({ ...options, colorScheme }, async (page) => {
          await shot(page, `${colorScheme}-${place}`);
          await page.getByRole("button", { name: "Open all frames" }).click();
          await page.evaluate(() => document.querySelectorAll(".rules").forEach((one) => { one.open = true; }));
          await page.locator("#u15").scrollIntoViewIfNeeded();
          await shot(page, `${colorScheme}-${place}-open`);
          const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
          assert.ok(wide <= window, `${wide} wide in a window of ${window}`);
          const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
          const dark = paper.match(/\d+/g).every((part) => Number(part) < 64);
          assert.equal(dark, colorScheme === "dark", paper);

          await page.evaluate(await readFile(AXE, "utf8"));
          const { violations, passes } = await page.evaluate(() => globalThis.axe.run(document, {
            runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
          }));
          const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html).join("; ")}`);
          assert.deepEqual(found, []);
          assert.ok(passes.some(({ id }) => id === "color-contrast"), "contrast was measured");
        }));
    }
  }

  test("nothing moves for those who want no motion", async () => {
    for (const [reducedMotion, behavior] of [["reduce", "auto"], ["no-preference", "smooth"]]) {
      await visit({ ...DESK, reducedMotion }, async (page) => {
        const found = await page.evaluate(() => getComputedStyle(document.documentElement).scrollBehavior);
        assert.equal(found, behavior);
      });
    }
  });
});
