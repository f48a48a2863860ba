import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
