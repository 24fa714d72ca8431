"""What the numbers and the guidelines mean for this patient: pure functions over tables of rules."""
