"""The lab: real servers without virtual machines, on networks that lead nowhere."""
