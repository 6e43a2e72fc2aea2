"""What a whole data set says that no single example does: label errors, class overlap and calibration."""
