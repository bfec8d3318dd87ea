"""Products in the forms that other programs of the field take rightly, with the options that they need."""
