"""From the pipelines that users write to what runs for every batch."""

from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.spec import PipelineSpec

__all__ = ["Compiler", "PipelineSpec"]
