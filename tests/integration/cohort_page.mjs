// Opens the page of a cohort as a person does, and writes down what it shows.
//   node cohort_page.mjs PLAN.json
// The plan: { playwright, chromium, page, search, score, shots: [{ name, width, height, dark }], out }
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const plan = JSON.parse(fs.readFileSync(process.argv[2]));
const { chromium } = createRequire(import.meta.url)(plan.playwright);
const WAIT_MS = 120_000;

const browser = await chromium.launch({ executablePath: plan.chromium, args: ['--no-sandbox', '--hide-scrollbars'] });
try {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true });
  const page = await context.newPage();
  const told = { errors: [], requests: [] };
  page.on('console', message => message.type() === 'error' && told.errors.push(message.text()));
  page.on('pageerror', error => told.errors.push(String(error)));
  page.on('request', request => told.requests.push(request.url().slice(0, 60)));
  await page.goto(`file://${plan.page}`);

  const state = () => page.locator('#state').innerText();
  const column = key => page.locator('#rows tbody tr').evaluateAll(
    (rows, place) => rows.map(row => row.cells[place].innerText), key);
  const settled = async before => {
    await page.waitForFunction(text => document.getElementById('state').textContent !== text, before, { timeout: WAIT_MS });
    return state();
  };

  await page.waitForSelector('#rows:not([hidden])', { timeout: WAIT_MS });
  told.all = await state();
  told.page = await page.locator('#place').innerText();
  told.images = await page.locator('img').evaluateAll(images => {
    images.forEach(image => { image.loading = 'eager'; });
    return Promise.all(images.map(image => image.decode().then(() => image.naturalWidth)));
  });
  told.tooWide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);

  await page.selectOption('#score', { label: plan.score });
  told.sorted = await column(6);
  await page.selectOption('#outcome', { label: 'skipped' });
  told.skipped = await state();
  told.reasons = await column(2);
  await page.selectOption('#outcome', '');
  const whole = await state();
  await page.fill('#search', plan.search);
  told.found = await settled(whole);
  told.uids = await column(1);
  const download = page.waitForEvent('download');
  await page.click('#save');
  told.saved = fs.readFileSync(await (await download).path(), 'utf-8');
  await page.fill('#search', '');
  await settled(told.found);
  await page.click('#next');
  told.second = await page.locator('#place').innerText();
  const find = page.locator('.find').first();
  told.wanted = await find.innerText();
  await find.click();
  told.jumped = await column(0);
  await page.fill('#search', '');
  await page.waitForFunction(text => document.getElementById('state').textContent === text, whole, { timeout: WAIT_MS });

  const session = await context.newCDPSession(page);
  await session.send('HeapProfiler.collectGarbage');
  told.heap = (await session.send('Runtime.getHeapUsage')).usedSize;
  told.elements = await page.evaluate(() => document.querySelectorAll('*').length);

  for (const { name, width, height, dark, print } of plan.shots) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme: dark ? 'dark' : 'light', media: print ? 'print' : 'screen' });
    await page.waitForTimeout(150);
    told[`tooWide-${name}`] = await page.evaluate(
      () => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    await page.screenshot({ path: path.join(plan.out, `${name}.png`), fullPage: true });
  }
  fs.writeFileSync(path.join(plan.out, 'told.json'), JSON.stringify(told, null, 1));
} finally {
  await browser.close();
}
