"""What a user would try instead: count features with logistic regression and gradient boosting."""
