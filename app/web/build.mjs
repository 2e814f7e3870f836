// Puts what browsers load into app/static: our pages as they are, and the few files needed of each
// library. Nothing is bundled: browsers load modules themselves.
import { copyFileSync, cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const TARGET = join(HERE, "..", "static");
const SCRIPTS = ["greek", "cyrillic", "latin-ext", "latin"];
const VENDORED = {
  "maplibre-gl": ["LICENSE.txt", "dist/maplibre-gl.mjs", "dist/maplibre-gl-worker.mjs", "dist/maplibre-gl.css"],
  uplot: ["LICENSE", "dist/uPlot.esm.js", "dist/uPlot.min.css"],
  "swagger-ui": ["LICENSE", "NOTICE", "swagger-ui-bundle.js", "swagger-ui.css"],
  inter: ["LICENSE", ...SCRIPTS.map((script) => `files/inter-${script}-wght-normal.woff2`)],
};
const PACKAGES = { "swagger-ui": "swagger-ui-dist", inter: "@fontsource-variable/inter" };

rmSync(TARGET, { recursive: true, force: true });
cpSync(join(HERE, "pages"), TARGET, { recursive: true });
for (const [folder, files] of Object.entries(VENDORED)) {
  const target = join(TARGET, "vendor", folder);
  mkdirSync(target, { recursive: true });
  for (const file of files) {
    const from = join(HERE, "node_modules", PACKAGES[folder] ?? folder, file);
    copyFileSync(from, join(target, file.split("/").at(-1)));
  }
}
console.log(`${readdirSync(TARGET, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length} files in app/static`);
