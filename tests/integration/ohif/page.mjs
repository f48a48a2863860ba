// What runs inside of the page: OHIF keeps its services in window.services.

export function isPainted() {
  try {
    const { viewportGridService, cornerstoneViewportService } = window.services;
    const viewport = cornerstoneViewportService.getCornerstoneViewport(viewportGridService.getActiveViewportId());
    return viewport.getActors().length > 0 && Boolean(viewport.getImageData());
  } catch {
    return false;
  }
}

export function repaint() {
  const { viewportGridService, cornerstoneViewportService } = window.services;
  cornerstoneViewportService.getCornerstoneViewport(viewportGridService.getActiveViewportId())?.render();
}

export function state() {
  const { services, cornerstoneTools } = window;
  const { displaySetService, viewportGridService, cornerstoneViewportService } = services;
  const attempt = ask => {
    try {
      return ask();
    } catch {
      return null;
    }
  };
  const active = viewportGridService.getActiveViewportId();
  const inGrid = viewportGridService.getState().viewports.get(active);
  const viewport = attempt(() => cornerstoneViewportService.getCornerstoneViewport(active));

  // where the corner of the first pixel and of the hundredth lie on the screenshot
  const placement = attempt(() => {
    const { left, top, width, height } = viewport.canvas.getBoundingClientRect();
    const { imageData } = viewport.getImageData();
    const onScreen = (column, row) => {
      const [x, y] = viewport.worldToCanvas(imageData.indexToWorld([column - 0.5, row - 0.5, 0]));
      return [x + left, y + top];
    };
    return { origin: onScreen(0, 0), column100: onScreen(100, 0), row100: onScreen(0, 100), canvas: [left, top, width, height] };
  });

  return {
    viewports: (inGrid?.displaySetInstanceUIDs ?? []).map(uid => displaySetService.getDisplaySetByUID(uid)?.Modality),
    placement,
    segments: attempt(() =>
      services.segmentationService.getSegmentations().flatMap(({ segmentationId, segments }) =>
        Object.values(segments).map(({ label, segmentIndex }) => ({
          label,
          colour: attempt(() => Array.from(services.segmentationService.getSegmentColor(active, segmentationId, segmentIndex))),
        }))
      )
    ),
    measurements: attempt(() =>
      services.measurementService
        .getMeasurements()
        .map(({ uid, toolName, label }) => {
          const [stats] = Object.values(cornerstoneTools.annotation.state.getAnnotation(uid).data.cachedStats);
          return { tool: toolName, label, length: stats?.length, unit: stats?.unit, isDrawn: Boolean(stats) };
        })
        .filter(({ isDrawn }) => isDrawn)
    ),
    outlines: attempt(() =>
      cornerstoneTools.annotation.state
        .getAllAnnotations()
        .filter(({ data }) => (data.renderableData?.POLYLINE ?? [data.contour?.polyline ?? []])[0].length > 2)
        .map(({ metadata, data }) => ({ tool: metadata.toolName, label: data.label, labels: data.labels, stats: data.cachedStats }))
    ),
    text: viewport ? [] : [...document.querySelectorAll('[data-cy="viewport-pane"]')].map(pane => pane.innerText).filter(Boolean),
    images: attempt(() => viewport.getActors().map(({ uid }) => uid)),
    overlays: attempt(() => viewport.getActors().slice(1).map(({ uid }) => uid)),
  };
}
