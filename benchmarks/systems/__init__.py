"""The systems that benchmarks compare; each module has `batches(workload, source, threads)`."""
