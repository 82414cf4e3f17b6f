# Each target is one script under scripts/, to be read there. "make" alone lists them.
export NP ARGS MPICC

help:
	@echo "make run     Monte Carlo pi on 4 MPI ranks; installs an MPI if there is none     NP=8  ARGS='--samples 1e9'"
	@echo "make test    format, lints, documentation and all tests: without MPI, with Open MPI, with MPICH"
	@echo "make bench   the comparison benchmark, on MPI ranks                              ARGS=..."
	@echo "make fuzz    files of journals that no program has written, on a nightly compiler    ARGS='-max_total_time=300'"
	@echo "make soak    faulty runs of the scheduler on simulated machines, until Ctrl-C    ARGS='--from 7'"
	@echo
	@echo "MPICC=/path/to/mpicc chooses the MPI.  RANKFOLD_NO_INSTALL=1 forbids installing anything."

run test bench soak fuzz:
	@bash scripts/$@.sh

.PHONY: help run test bench soak fuzz
