# numba's decorators change what a function takes (an intrinsic gains and loses arguments); its source does not say so.
from typing import Any

def __getattr__(name: str) -> Any: ...
