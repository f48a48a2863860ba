// Opens a segmentation in OHIF by the link that the page of its study has, and writes down what OHIF shows and asks for.
//   node view.mjs PLAN.json
// The plan: { playwright, chromium, viewport, link, study, out }
import fs from 'node:fs';
import path from 'node:path';
import { browser, photograph, settled, STEP_MS } from './browser.mjs';
import { isPainted, state } from './page.mjs';

const plan = JSON.parse(fs.readFileSync(process.argv[2]));
const told = { requests: [], refused: [], errors: [], links: [] };
const { context, end } = await browser(plan);
context.on('request', request => told.requests.push(request.url()));
context.on('response', response => response.status() >= 400 && told.refused.push(response.url()));
context.on('page', page => {
  page.on('console', message => message.type() === 'error' && told.errors.push(message.text().slice(0, 300)));
  page.on('pageerror', error => told.errors.push(error.message.slice(0, 300)));
});
try {
  const pages = await context.newPage();
  await pages.goto(plan.link);
  await pages.waitForURL(url => url.pathname === '/');
  await pages.goto(new URL(`/studies/${plan.study}`, plan.link).href);
  told.note = await pages.locator('text=Pixel Spacing of this image').count();
  told.links = await pages.locator('a[data-viewer]').evaluateAll(links => links.map(link => link.dataset.viewer));
  const [viewer] = await Promise.all([
    context.waitForEvent('page'),
    pages.locator('a[data-viewer="segmentation"]').first().click(),
  ]);
  told.url = viewer.url();
  await viewer.waitForFunction(isPainted, null, { timeout: STEP_MS, polling: 250 });
  await viewer.addStyleTag({ content: '[data-sonner-toaster] { display: none }' }); // messages cover the picture
  await settled(viewer, { wait: 'segments' });
  await photograph(viewer, path.join(plan.out, 'segmentation.png'));
  Object.assign(told, await viewer.evaluate(state), { isIsolated: await viewer.evaluate(() => crossOriginIsolated) });
} catch (error) {
  told.error = error.message;
  for (const [number, page] of context.pages().entries()) await page.screenshot({ path: path.join(plan.out, `error-${number}.png`) });
} finally {
  await end();
}
fs.writeFileSync(path.join(plan.out, 'told.json'), JSON.stringify(told, null, 1));
