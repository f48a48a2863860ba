// Opens studies in OHIF as a reader does, and writes down what OHIF shows.
//   node drive.mjs PLAN.json
// The plan: { playwright, chromium, viewport, url, out, visits: [{ name, study, steps: [{ name, series, wait, modality }] }] }
// A step opens a series, and is done when the list `wait` of page.mjs has something in it, and `modality` is in the viewport.
// Each visit loads the page once and writes NAME.json, and a screenshot NAME-STEP.png per step.
import fs from 'node:fs';
import path from 'node:path';
import { browser, photograph, settled, STEP_MS } from './browser.mjs';
import { isPainted, state } from './page.mjs';

const plan = JSON.parse(fs.readFileSync(process.argv[2]));
const START_TRIES = 4; // OHIF 3.12 sometimes dies at start with "__filename is not defined"
const START_MS = 40_000;

async function start(page, study, log) {
  for (let attempt = 1; attempt <= START_TRIES; attempt += 1) {
    const dead = page.waitForEvent('console', {
      predicate: message => message.text().includes('__filename is not defined'),
      timeout: START_MS,
    });
    await page.goto(`${plan.url}/viewer?StudyInstanceUIDs=${study}`);
    const painted = page.waitForFunction(isPainted, null, { timeout: START_MS, polling: 250 });
    const first = await Promise.race([painted.then(() => 'painted'), dead.then(() => 'dead')]).catch(() => 'late');
    dead.catch(() => {});
    painted.catch(() => {});
    if (first === 'painted') return;
    log.push(`[start] ${first}, attempt ${attempt}`);
  }
  throw new Error('OHIF did not show the radiograph');
}

async function open(page, series) {
  const uid = await page.evaluate(
    wanted =>
      window.services.displaySetService.getActiveDisplaySets().find(set => set.SeriesInstanceUID === wanted)
        ?.displaySetInstanceUID,
    series
  );
  if (!uid) throw new Error('OHIF does not list the series');
  const thumbnail = page.locator(`[id="thumbnail-${uid}"]`);
  await thumbnail.scrollIntoViewIfNeeded({ timeout: STEP_MS });
  await thumbnail.dblclick({ timeout: STEP_MS });
}

async function make(context, { name, study, steps }) {
  const page = await context.newPage();
  const log = [];
  page.on('console', message => message.type() === 'error' && log.push(message.text().slice(0, 300)));
  page.on('pageerror', error => log.push(error.message.slice(0, 300)));
  const seen = {};
  try {
    await start(page, study, log);
    await page.addStyleTag({ content: '[data-sonner-toaster] { display: none }' }); // messages cover the picture
    await settled(page, { wait: 'viewports' });
    for (const step of steps) {
      const logged = log.length;
      await open(page, step.series);
      await settled(page, step);
      await photograph(page, path.join(plan.out, `${name}-${step.name}.png`));
      seen[step.name] = { ...(await page.evaluate(state)), log: log.slice(logged) };
    }
  } catch (error) {
    seen.error = error.message;
    await page.screenshot({ path: path.join(plan.out, `${name}-error.png`) });
  }
  fs.writeFileSync(path.join(plan.out, `${name}.json`), JSON.stringify({ ...seen, log }, null, 1));
  await page.close();
}

const { context, end } = await browser(plan);
try {
  for (const visit of plan.visits) await make(context, visit);
} finally {
  await end();
}
