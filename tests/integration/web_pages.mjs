// Uses the pages of a running service as people do, and writes down what it sees.
//   node web_pages.mjs PLAN.json
// The plan: { playwright, chromium, axe, link, files, study, out, schemes, widths }
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const plan = JSON.parse(fs.readFileSync(process.argv[2]));
const { chromium } = createRequire(import.meta.url)(plan.playwright);
const axe = fs.readFileSync(plan.axe, 'utf8');
const origin = new URL(plan.link).origin;
const WAIT = { timeout: 90_000 };
const told = { errors: [], requests: [], axe: [], wide: [], seen: {} };
const file = name => path.join(plan.out, name);
const exists = async name => { while (!fs.existsSync(file(name))) await new Promise(resolve => setTimeout(resolve, 100)); };

async function entered(browser, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.on('console', message => message.type() === 'error' && told.errors.push(message.text()));
  page.on('pageerror', error => told.errors.push(String(error)));
  page.on('request', request => told.requests.push(request.url()));
  await page.goto(plan.link);
  await page.waitForURL(`${origin}/`);
  return page;
}

const browser = await chromium.launch({ executablePath: plan.chromium, args: ['--no-sandbox', '--hide-scrollbars'] });
try {
  const page = await entered(browser, { viewport: { width: 1280, height: 900 } });
  told.cookie = (await page.context().cookies()).map(({ httpOnly, sameSite }) => ({ httpOnly, sameSite }));
  told.readable = await page.evaluate(() => document.cookie);

  await page.goto(`${origin}/send`);
  await page.setInputFiles('#files', plan.files);
  await page.waitForFunction(() => document.getElementById('progress-words').textContent.endsWith(' sent'), null, WAIT);
  told.sent = await page.locator('#progress-words').innerText();
  told.reasons = await page.locator('#reasons li').allInnerTexts();
  await page.waitForFunction(count => {
    const rows = [...document.querySelectorAll('#studies tr')];
    return rows.length === count && rows.every(row => /ENCODED|SENT|COMMITTED|IGNORED|DEAD/.test(row.textContent));
  }, plan.studies, WAIT);
  told.studies = await page.locator('#studies tr').evaluateAll(rows => rows.map(row => [...row.cells].map(cell => cell.innerText)));

  await page.locator(`#studies a[href$="${plan.study}"]`).click();
  await page.waitForURL(`**/studies/${plan.study}`);
  const stage = page.locator('.stage').first();
  const look = () => stage.locator('img').evaluateAll(images => images.map(
    ({ hidden, naturalWidth, style }) => ({ hidden, naturalWidth, transform: style.transform, filter: style.filter })));
  await page.waitForFunction(() => [...document.querySelectorAll('.stage img')].every(image => image.complete));
  told.before = await look();
  await page.locator('[data-shows]').first().uncheck();
  await stage.focus();
  for (const key of ['+', '+', 'ArrowLeft']) await page.keyboard.press(key);
  told.after = await look();
  await page.locator('[data-levels]:not([disabled])').waitFor(WAIT);
  const grey = () => page.evaluate(() => {
    const canvas = document.querySelector('.stage canvas'), { width, height } = canvas;
    const { data } = canvas.getContext('2d').getImageData(0, height / 2, width, 1);
    const [centre, wide] = ['centre', 'width'].map(name => document.querySelector(`[data-level=${name}]`).value);
    return { width, height, row: [...data].filter((_, place) => place % 4 === 0), centre, wide, transform: canvas.style.transform };
  });
  told.window = [await grey()];
  await page.locator('[data-level=width]').fill('8000');
  await stage.focus();
  await page.keyboard.press('PageUp');
  await page.waitForTimeout(300);
  told.window.push(await grey());
  const download = page.waitForEvent('download');
  await page.locator('a[download]').first().click();
  told.download = (await download).suggestedFilename();

  const now = await entered(browser, { viewport: { width: 1280, height: 900 } });
  await now.goto(`${origin}/now`);
  await now.getByText('no answer', { exact: true }).waitFor(WAIT);
  fs.writeFileSync(file('seen-outage'), '');
  await exists('archive-is-up');
  const again = now.getByRole('button', { name: 'Try again now' });
  await again.first().click();
  const loads = told.requests.filter(url => url === `${origin}/now`).length;
  await now.waitForFunction(count => [...document.querySelectorAll('a.count')].some(
    each => each.textContent === `${count}SENT`), plan.studies, WAIT);
  told.live = told.requests.filter(url => url === `${origin}/now`).length - loads; // loads of the whole page since

  const pages = { now: '/now', studies: '/studies', study: `/studies/${plan.study}`, send: '/send', models: '/models', card: '/models/offline-anatomy', settings: '/settings', nothing: '/studies?uid=9' };
  for (const scheme of plan.schemes) {
    const page = await entered(browser, { colorScheme: scheme });
    for (const [name, address] of Object.entries(pages)) {
      await page.goto(origin + address);
      await page.waitForFunction(() => [...document.images].every(image => image.complete));
      for (const width of plan.widths) {
        await page.setViewportSize({ width, height: 900 });
        const where = `${name} ${scheme} ${width}`;
        if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) told.wide.push(where);
        if (width === (scheme === 'light' ? plan.widths[0] : plan.widths.at(-1))) { // each takes long
          await page.evaluate(axe); // by the debugger: the policy of the page lets no other script in
          const { violations } = await page.evaluate(() => axe.run());
          told.axe.push(...violations.map(({ id, nodes }) => `${where}: ${id} ${nodes[0].target}`));
        }
        await page.screenshot({ path: file(`${name}-${scheme}-${width}.png`) });
      }
    }
    await page.context().close();
  }
} finally {
  await browser.close();
  fs.writeFileSync(file('told.json'), JSON.stringify(told));
}
