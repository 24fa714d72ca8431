"""Tests of adjuvant; they mirror the packages they prove."""
