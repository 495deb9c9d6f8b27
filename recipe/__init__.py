# A regular package on purpose: TransferQueue's wheel ships a stray namespace package of the same name,
# and a regular package wins over it wherever it stands on sys.path.
