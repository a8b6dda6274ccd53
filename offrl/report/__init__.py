"""From records to tables and figures: pure functions of what runs leave behind."""
