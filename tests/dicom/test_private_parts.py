"""What we rely on in libraries, though nobody promised it. Where one of these fails, the library has changed."""

import importlib
import inspect
import zipfile
from importlib.metadata import version
from io import BytesIO

import pytest

from cxr_dicom.dicom import private_parts
from cxr_dicom.synthetic import radiograph
from tests import ROOT

HOME = "dicom/private_parts.py"
PARTS = [  # of which library, which part, its parameters (None: any), who relies on it, and for what
    (
        "pydicom",
        "filereader._read_file_meta_info",
        ("fp",),
        HOME,
        "a data set is not unpacked before its size is known",
    ),
    (
        "pydicom",
        "filereader.data_element_generator",
        ("fp", "is_implicit_VR", "is_little_endian"),
        "dicom/files.py",
        "elements are read one by one",
    ),
    ("pynetdicom", "_config.STORE_SEND_CHUNKED_DATASET", None, HOME, "files are sent byte for byte"),
    ("pynetdicom", "presentation.PresentationContext.as_scp", None, HOME, "a C-GET needs no answer about roles"),
    ("torchxrayvision", "baseline_models.chestx_anatomy._extract_state_dict", None, HOME, "checkpoints load as there"),
    (
        "torchxrayvision",
        "baseline_models.chestx_anatomy._remap_state_dict_keys",
        None,
        HOME,
        "checkpoints load as there",
    ),
    (
        "torchxrayvision",
        "baseline_models.chestx_anatomy.UNetResNet50._forward",
        None,
        HOME,
        "pixels are normalised once",
    ),
    ("torch", "_C.PyTorchFileReader.get_all_records", None, HOME, "TorchScript is read before it is run"),
    ("torch", "_C.PyTorchFileReader.get_record", None, HOME, "TorchScript is read before it is run"),
    (
        "pynetdicom",
        "transport.RequestHandler._create_association",
        ("self",),
        "ingest/server.py",
        "an association is bounded",
    ),
    (
        "pynetdicom",
        "transport.AssociationSocket.ready",
        None,
        "ingest/connection.py",
        "nothing is read while a message waits for its answer",
    ),
    ("pynetdicom", "transport.AssociationSocket._shutdown_socket", ("self",), "ingest/connection.py", "nothing leaks"),
    ("pynetdicom", "transport.AssociationSocket.send", ("self", "bytestream"), "ingest/connection.py", "sending ends"),
    ("pynetdicom", "dul.DULServiceProvider.run_reactor", ("self",), "ingest/upper_layer.py", "errors end quietly"),
    ("pynetdicom", "dul.DULServiceProvider._read_pdu_data", ("self",), "ingest/upper_layer.py", "the cause is known"),
    (
        "pynetdicom",
        "dul.DULServiceProvider.idle_timer_expired",
        ("self",),
        "ingest/upper_layer.py",
        "silence is a cause",
    ),
    ("pynetdicom", "dimse.DIMSEServiceProvider.get_msg", ("self", "block"), "ingest/dimse.py", "one at a time"),
    (
        "pynetdicom",
        "dimse.DIMSEServiceProvider.send_msg",
        ("self", "primitive", "context_id"),
        "ingest/dimse.py",
        "one at a time",
    ),
    ("pynetdicom", "dimse_messages.DIMSEMessage.decode_msg", ("self", "primitive"), "ingest/dimse.py", "bounds"),
    ("pynetdicom", "association.Association.run_reactor", ("self",), "ingest/server.py", "errors end quietly"),
    (
        "pynetdicom",
        "transport.ThreadedAssociationServer.process_request_thread",
        ("self", "request", "client_address"),
        "ingest/server.py",
        "hands are shaken outside of the accepting thread",
    ),
    ("pynetdicom", "transport.AssociationServer.active_associations", None, "scp.py", "connections are counted"),
    (
        "pynetdicom",
        "dul.DULServiceProvider._decode_pdu",
        ("self", "bytestream"),
        "ingest/upper_layer.py",
        "the data of a PDU is not copied",
    ),
    (
        "pynetdicom",
        "ae.ApplicationEntity._create_socket",
        ("self", "assoc", "address", "tls_args"),
        "system/requestor.py",
        "what peers answer is bounded",
    ),
    (
        "pynetdicom",
        "dul.DULServiceProvider._decode_pdu",
        ("self", "bytestream"),
        "system/requestor.py",
        "answers in odd forms are read",
    ),
    (
        "pynetdicom",
        "transport.AssociationSocket.recv",
        ("self", "nr_bytes"),
        "system/requestor.py",
        "a PDU has a deadline",
    ),
    (
        "pynetdicom",
        "transport.AssociationSocket.send",
        ("self", "bytestream"),
        "system/requestor.py",
        "a PDU has a deadline",
    ),
    (
        "pynetdicom",
        "transport.AssociationSocket._shutdown_socket",
        ("self",),
        "system/requestor.py",
        "why there is no connection is known",
    ),
]


@pytest.mark.parametrize(("library", "name", "parameters", "user", "purpose"), PARTS, ids=lambda value: str(value)[:60])
def test_it_is_there_as_we_know_it(library, name, parameters, user, purpose):
    told = f"{library} {version(library)}: {name} is not what cxr_dicom/{user} relies on so that {purpose}"
    *modules, last = name.split(".")
    try:
        part = importlib.import_module(library)
        for each in modules:
            qualified = f"{part.__name__}.{each}"
            part = getattr(part, each, None) or importlib.import_module(qualified)
        part = getattr(part, last)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{told}: it is gone ({error})")
    if parameters is not None:
        assert tuple(inspect.signature(part).parameters)[: len(parameters)] == parameters, told
        more = list(inspect.signature(part).parameters.values())[len(parameters) :]
        assert all(each.default is not each.empty for each in more), told
    last_user = (ROOT / "cxr_dicom" / user).read_text(encoding="utf-8")
    assert last in last_user, f"cxr_dicom/{user} no longer uses {name}: take it from the table"


def test_file_meta_information_is_read_up_to_the_data_set():
    image = radiograph(16, 16)
    content = BytesIO()
    image.save_as(content, enforce_file_format=True)
    content.seek(132)
    meta = private_parts.read_file_meta_info(content)
    assert meta.TransferSyntaxUID == image.file_meta.TransferSyntaxUID
    assert content.tell() == 132 + 12 + meta.FileMetaInformationGroupLength


def test_pynetdicom_sends_files_as_they_are():
    from pynetdicom import _config

    _config.STORE_SEND_CHUNKED_DATASET = False
    private_parts.send_files_byte_for_byte()
    assert _config.STORE_SEND_CHUNKED_DATASET is True


def test_torchxrayvision_normalises_in_forward_only():
    import torch
    from torchxrayvision.baseline_models.chestx_anatomy import UNetResNet50

    torch.manual_seed(0)
    network = UNetResNet50(weights=False).eval()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        logits = private_parts.anatomy_logits(network, pixels)
        assert logits.shape[0] == 1
        assert logits.shape[2:] == pixels.shape[2:]
        assert torch.equal(logits, private_parts.anatomy_logits(network, pixels))
    renamed = private_parts.anatomy_state({f"module.{name}": value for name, value in network.state_dict().items()})
    assert renamed.keys() & network.state_dict().keys()


def test_the_code_of_torchscript_is_read_without_running_it_and_its_graphs_say_what_it_does(tmp_path):
    import torch

    traced = torch.jit.trace(torch.nn.Sequential(torch.nn.Linear(2, 2)), torch.zeros(1, 2))
    traced.save(tmp_path / "net.pt")
    content = (tmp_path / "net.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "net.pt") as archive:
        assert private_parts.torchscript_size(content) == sum(each.file_size for each in archive.infolist())
    names, records = private_parts.torchscript_content(content)
    assert any(b"torch.linear" in code for code in records.values())
    assert {"data.pkl", "constants.pkl"} <= records.keys() <= set(names)
    graphs = [set(graph) for graph in private_parts.torchscript_graphs(torch.jit.load(tmp_path / "net.pt"))]
    assert graphs == [{"prim::GetAttr", "aten::linear"}] * 2, "the method of the whole and that of its part"
    assert {"save", "relu", "from_file"} <= private_parts.operator_names()
