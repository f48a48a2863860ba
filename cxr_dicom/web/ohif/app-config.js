// What OHIF is told, before it starts.
window.PUBLIC_URL = '/ohif/';
window.browserImportFunction = name => import(name);
window.__filename = ''; // a decoder of OHIF 3.12 asks for it, and ends OHIF where it is missing
window.config = {
  routerBasename: '/ohif',
  extensions: [],
  modes: [],
  showStudyList: true,
  maxNumberOfWebWorkers: 2,
  showLoadingIndicator: true,
  showCPUFallbackMessage: false,
  showWarningMessageForCrossOrigin: false,
  investigationalUseDialog: { option: 'never' },
  disableConfirmationPrompts: true, // a link opens its object without a question
  defaultDataSourceName: 'cxr-dicom',
  dataSources: [
    {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: 'cxr-dicom',
      configuration: {
        friendlyName: 'cxr-dicom',
        name: 'cxr-dicom',
        qidoRoot: `${location.origin}/dicom-web`,
        wadoRoot: `${location.origin}/dicom-web`,
        imageRendering: 'wadors',
        thumbnailRendering: 'wadors',
        enableStudyLazyLoad: true,
        qidoSupportsIncludeField: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true,
        omitQuotationForMultipartRequest: true,
        bulkDataURI: { enabled: true, relativeResolution: 'studies' },
      },
    },
  ],
};
