"""Which cases are of one patient, without telling who: patient numbers are hashed with a salt and never kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from segexplorer.core.errors import DataError
from segexplorer.data.readers.dicom_files import Opener, find
from segexplorer.data.readers.dicom_parsing import parse, reading

_SALT = secrets.token_bytes(32)
"""Of this process, so that keys are worth nothing elsewhere: a short number could be guessed from a bare hash."""


def patient_key(path: Path, salt: bytes = _SALT) -> str:
    """Return a key that is equal for files of one patient (PatientID and its issuer); "" where no patient is named.

    Parameters
    ----------
    path
        A folder, archive or file; its first DICOM file decides.
    salt
        Keys of one salt can be compared; by default those of one process.

    Raises
    ------
    DataError
        When there is no readable DICOM file.
    """
    with Opener() as opener:
        for place in find(path):
            parsed = parse(place, opener, ("PatientID", "IssuerOfPatientID"))
            if parsed is None:
                continue
            with reading(f"The patient number in {place.name} is damaged."):
                number = str(parsed[0].get("PatientID") or "").strip()
                issuer = str(parsed[0].get("IssuerOfPatientID") or "").strip()
            text = f"{issuer}\0{number}".encode()
            return hmac.new(salt, text, hashlib.sha256).hexdigest()[:16] if number else ""
    raise DataError(f"{path.name} holds no DICOM file.", "Name the folder of a series.")
