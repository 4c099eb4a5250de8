// How the page is built: a few files with stable names, into the folder that the server embeds.
import { readFileSync } from "node:fs";

import { defineConfig, type Plugin } from "vite";

/** The licence of what the script holds beside our own code; it asks to go with every copy. */
const NOTICE = ["preact", "@preact/signals", "@preact/signals-core"]
  .map((name) => `/*! ${name}\n\n${readFileSync(`node_modules/${name}/LICENSE`, "utf8").trim()}\n*/`)
  .join("\n");

/** The script runs before the page is first drawn, so that a chosen theme does not flash. */
const early: Plugin = {
  name: "early",
  transformIndexHtml: (html) => html.replaceAll(" crossorigin", "").replace('<script type="module"', '<script type="module" blocking="render"'),
};

export default defineConfig({
  base: "./",
  plugins: [early],
  build: {
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    outDir: process.env.PAGE_FOLDER ?? "../crates/server/page",
    emptyOutDir: true,
    sourcemap: false,
    assetsInlineLimit: 0,
    cssCodeSplit: false,
    modulePreload: false,
    reportCompressedSize: false,
    rolldownOptions: {
      output: { entryFileNames: "app.js", assetFileNames: "app.[ext]", postBanner: NOTICE },
    },
  },
});
