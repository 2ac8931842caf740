"""Models and placements for tests: small artifacts that say what they are told to, and commands about them."""

from itertools import count
from uuid import UUID

from modelkit import an_artifact, trees

from domain.ids import digest_of
from domain.placement_events import ModelRef, Role, Stage
from domain.placing import KnownModel, PlaceModel, RetireModel, RollBack
from ml.features.schema import SCHEMA_ID
from ml.models.artifact import dump, load, model_id
from ml.models.scorer import Scorer

NOW = 1_790_000_000_000
_numbers = count(1)


def a_ref(name="a", features=SCHEMA_ID):
    return ModelRef(f"s2-{name}", name * 64, features)


def asked(by="0a1b2c3d4e5f", reason="a test", at=NOW, **content):
    number = next(_numbers)
    return {
        "cause": UUID(int=number),
        "digest": digest_of(number, content),
        "by": by,
        "reason": reason,
        "decided_at": at,
    }


def place(name, role=Role.CHAMPION, share=0.0, *, stage=Stage.S2, features=SCHEMA_ID, schema=SCHEMA_ID, **changes):
    """A command with what the registry would say of the model *name*; unknown where it is ``nobody``."""
    known = None if name == "nobody" else KnownModel(a_ref(name, features), stage)
    command = asked(**changes)
    return PlaceModel(**command, model=f"s2-{name}", role=role, share=share, known=known, schema=schema)


def retire(name, only_as=None, **changes):
    return RetireModel(**asked(**changes), model=f"s2-{name}", only_as=only_as)


def roll_back(seen, **changes):
    return RollBack(**asked(**changes), seen=f"s2-{seen}" if seen else "")


def a_model(feature="area_px", threshold=1.0, left=2.0, right=-2.0, **changes):
    """The bytes of a model of one split: what is at most the *threshold* gets the margin *left*."""
    return dump(an_artifact(trees((feature, threshold, False, left, right)), **changes))


def saying(margin, **changes):
    """The bytes of a model that says the same of everything."""
    return a_model(left=margin, right=margin, **changes)


def scorer_of(data):
    return Scorer(load(data), model_id(data))
