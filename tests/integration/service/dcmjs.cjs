// A sender and a receiver of dcmjs-dimse: node dcmjs.cjs MODULES send PORT FILE | node dcmjs.cjs MODULES receive FOLDER PORT
const path = require('path');

const [, , modules, act, ...rest] = process.argv;
const { Client, Server, Scp } = require(path.join(modules, 'dcmjs-dimse'));
const { CStoreRequest } = require(path.join(modules, 'dcmjs-dimse')).requests;
const { CStoreResponse } = require(path.join(modules, 'dcmjs-dimse')).responses;
const { PresentationContextResult, Status } = require(path.join(modules, 'dcmjs-dimse')).constants;

class Archive extends Scp {
  associationRequested(association) {
    for (const { id } of association.getPresentationContexts()) {
      const context = association.getPresentationContext(id);
      context.setResult(PresentationContextResult.Accept, context.getTransferSyntaxUids()[0]);
    }
    this.sendAssociationAccept();
  }

  cStoreRequest(request, callback) {
    const response = CStoreResponse.fromRequest(request);
    const file = path.join(rest[0], `${request.getAffectedSopInstanceUid()}.dcm`);
    request.getDataset().toFile(file, (error) => {
      response.setStatus(error ? Status.ProcessingFailure : Status.Success);
      callback(response);
    });
  }

  associationReleaseRequested() {
    this.sendAssociationReleaseResponse();
  }
}

if (act === 'send') {
  const client = new Client();
  const request = new CStoreRequest(rest[1]);
  request.on('response', (response) => console.log(JSON.stringify({ status: response.getStatus() })));
  client.addRequest(request);
  client.on('networkError', (error) => console.error(String(error)));
  client.on('associationReleased', () => console.log(JSON.stringify({ released: true })));
  client.send('127.0.0.1', Number(rest[0]), 'DCMJS', 'CXRDICOM');
} else {
  const server = new Server(Archive);
  server.on('networkError', (error) => console.error(String(error)));
  server.listen(Number(rest[1]));
}
