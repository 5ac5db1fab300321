"""What the paper leaves open, searched: which readings explain Table IV, and which reward follows the objective."""
