"""The original's way to read a file's bytes by hand: for those who call decoders or their own code without a loader."""

from ffcv.memory_managers.base import MemoryContext, MemoryManager
from ffcv.memory_managers.os_cache import OSCacheManager
from ffcv.memory_managers.process_cache import ProcessCacheManager

__all__ = ["MemoryContext", "MemoryManager", "OSCacheManager", "ProcessCacheManager"]
