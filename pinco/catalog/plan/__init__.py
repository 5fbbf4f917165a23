"""What a sheet asks for, less what is done."""
