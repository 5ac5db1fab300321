"""What comes out: the experiments of Section V, their results, and what they say of the paper's claims."""
