"""``cxr-dicom init``: a commented settings file to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_dicom.cli import Refused
from cxr_dicom.cli._options import OutputFile
from cxr_dicom.cli._service import DEFAULT_CONFIG
from cxr_dicom.system import atomic

TEMPLATE = """\
# Settings of cxr-dicom. What stands in a comment is the default, or an example.
# `cxr-dicom check` tries all of it. An environment variable wins: CXR_DICOM_LISTENER__PORT=104

[spool]
folder = "spool"                # received images, objects, ledger; on a local disk
# min_free_mb = 1024            # below this, images are refused and the sender tries again

[listener]
# ae_title = "CXRDICOM"         # or several: ["CXR", "CXR_RESEARCH"]
# address = "127.0.0.1"         # "0.0.0.0": all interfaces
# port = 11112
# calling_ae_titles = ["MODALITY1"]           # who may send; empty: any name
# calling_addresses = ["10.1.2.0/24"]         # from where; empty: this machine only
# [listener.tls]
# certificate = "server.pem"
# key = "server.key"
# ca = "clients.pem"            # when given, peers must show a certificate

# [assembly]
# quiet_seconds = 30            # a study is complete after so much silence
# at_most_seconds = 900
# whole_studies_from = ["PACS"] # they send a study in one association: its release completes it
# [assembly.urgent]             # which studies go before all others
# called_ae_titles = ["CXRSTAT"]              # the listener answers to these names, too
# words = ["STAT", "trauma"]    # in descriptions and priorities of the header

# [service]
# workers = 1
# metrics_port = 9464           # Prometheus and health, on 127.0.0.1

# [web]
# port = 8471                   # pages for a browser, on 127.0.0.1, with a token (docs/how-to/web.md)

# [models]
# names = ["auto"]

# [encode]
# objects = ["auto"]            # seg, sr, parametric-map, presentation-state; or name them
# content_time = "auto"         # the service dates objects by the clock; "source": as the image

# [retry]
# give_up_hours = 24            # of refusals; while a destination is unreachable this clock stands still

# [retention]                   # days after a study is finished and delivered, or went nowhere
# sources_days = 7
# objects_days = 30
# rows_days = 365

# [monitor]                     # the period in which all was well; default: from the first image on
# reference = 2026-01-05
# reference_days = 56           # whole weeks

# [[routes]]                    # the first that holds for an image decides (docs/how-to/routes.md); also
# name = "research"             # senders, modalities, views, stations, words
# called_ae_titles = ["CXR_RESEARCH"]
# models = ["chestx-det", "xrv-densenet121-all"]
# objects = ["seg", "sr"]
# destinations = ["web"]

# [[destinations]]
# name = "pacs"
# kind = "dicom"
# address = "pacs.example"
# port = 104
# ae_title = "PACS"
# verify = "commitment"         # or "query", or "none"

# [[destinations]]
# name = "web"
# kind = "dicomweb"
# url = "https://pacs.example/dicom-web"
# token_file = "token"
# verify = "query"
# [destinations.rules]          # belongs to the destination above it; without rules everything goes there
# findings = ["pleural_effusion"]

# [poller]
# interval_seconds = 300
# [[poller.archives]]
# name = "archive"
# kind = "dicomweb"             # or "query-retrieve", with address, port, ae_title, retrieve = "get" or "move"
# url = "https://archive.example/dicom-web"
"""


@click.command()
@click.argument("path", default=DEFAULT_CONFIG, type=OutputFile())
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(path: Path, force: bool) -> None:
    """Write a commented settings file to PATH, ./cxr-dicom.toml when not given."""
    if path.exists() and not force:
        raise Refused(f"{path} is there already; --force replaces it")
    try:
        with atomic.open_text(path, atomic.FILE_OF_ALL) as file:
            file.write(TEMPLATE)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    click.echo(f"{path}: written; edit it, then try it with: cxr-dicom check --config {path}")
