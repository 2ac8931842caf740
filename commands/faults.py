"""What is wrong with a document that cannot be read, without any of its values."""

import msgspec

from commands.items import Fault


def fault_of(error: Exception) -> Fault:
    """Say what is wrong and where; msgspec's messages name types, limits and paths, no values but a closed list's."""
    if isinstance(error, RecursionError):
        return Fault(code="too_deep", detail="the document is nested too deeply")
    if not isinstance(error, msgspec.ValidationError):
        return Fault(code="not_json", detail="the document is not JSON")
    detail, _, path = str(error).partition(" - at `")
    if detail.startswith("Invalid enum value"):
        detail = "the value is none of its closed list"
    return Fault(code="invalid", detail=detail, path=path.rstrip("`") or "$")


def told(error: Exception) -> str:
    """Return what a caller is told of *error*: its code, where it is, and a sentence."""
    fault = fault_of(error)
    return f"{fault.code} at {fault.path}: {fault.detail}"
