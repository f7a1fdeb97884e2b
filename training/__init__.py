"""Everything offline: training, fitting, evaluation, reports. Imports the runtime, never back."""
