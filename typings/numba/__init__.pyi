# numba's decorators change what a function takes (an intrinsic gains and loses arguments), which its source does not say.
from typing import Any

def __getattr__(name: str) -> Any: ...
