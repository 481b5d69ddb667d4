"""The systems that benchmarks compare; each module has `loader(workload, source, threads)`."""
