"""What people type: a thin layer over ``banger.Farm`` that parses, prints and exits."""
