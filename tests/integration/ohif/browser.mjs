// The browser that opens OHIF, and how its pictures are waited for.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';
import { repaint, state } from './page.mjs';

const FLAGS = [
  '--no-sandbox', // the tests may run as root in a container
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--hide-scrollbars',
  '--no-first-run',
  '--use-gl=angle', // WebGL in software: machines that run tests have no graphics card
  '--use-angle=swiftshader',
  '--enable-unsafe-swiftshader',
  '--disable-gpu-compositing', // and the page itself without it: a half of the processor time
  '--disable-gpu-rasterization',
];
export const STEP_MS = 40_000;
const STILL_TRIES = 12;

const sleep = ms => new Promise(done => setTimeout(done, ms));

const hasShown = (now, { wait, modality }) => now[wait]?.length > 0 && (!modality || now.viewports.includes(modality));

/** Waits until the step is there and the page has stopped to change, or the time is over. */
export async function settled(page, step) {
  const deadline = Date.now() + STEP_MS;
  let before = '';
  while (Date.now() < deadline) {
    await sleep(600);
    const now = await page.evaluate(state);
    const told = JSON.stringify(now);
    if (told === before && hasShown(now, step)) return;
    before = told;
  }
}

/** Repaints, because OHIF does not always when a volume arrives late, and takes the picture when it no longer changes. */
export async function photograph(page, file) {
  const { width, height } = page.viewportSize();
  await page.mouse.move(width - 10, height - 100); // where nothing shows a hint
  let before = Buffer.alloc(0);
  for (let attempt = 0; attempt < STILL_TRIES; attempt += 1) {
    await page.evaluate(repaint);
    await sleep(400);
    const now = await page.screenshot();
    if (now.equals(before)) break;
    before = now;
  }
  fs.writeFileSync(file, before);
}

/** Starts Chromium of the size `plan.viewport` with a profile of its own, which `end` removes. */
export async function browser(plan) {
  const { chromium } = createRequire(import.meta.url)(plan.playwright);
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'ohif-profile-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: plan.chromium,
    headless: true,
    args: FLAGS,
    viewport: plan.viewport,
  });
  await context.addInitScript(() => localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour'])));
  const end = async () => {
    await context.close();
    fs.rmSync(profile, { recursive: true, force: true });
  };
  return { context, end };
}
