"""The diseases of the simulator, each after those that raise its rate."""

from ehr.simulator.diseases import Disease, atc, icd, lab, log_lab

DISEASES: tuple[Disease, ...] = (
    Disease(
        name="hypertension", codes=icd("I10", "I11.9"), symptom="ICD10CM//R51.9",
        lab=lab("8480-6", 124, 8, 7, 24, low=70, high=250), drugs=atc("C09AA05", "C08CA01", "C03AA03"),
        rate=45, per_decade=0.35, preclinical_years=3.5, visits=0.5,
    ),
    Disease(
        name="obesity", codes=icd("E66.9", "E66.01"), symptom="ICD10CM//R63.5",
        lab=lab("39156-5", 26, 2.6, 0.6, 6, low=14, high=70), rate=14, per_decade=-0.1, female=0.2,
        preclinical_years=4, visits=0.2,
    ),
    Disease(
        name="hyperlipidemia", codes=icd("E78.5", "E78.00", "E78.2"), symptom="ICD10CM//R79.89",
        lab=lab("13457-7", 112, 20, 12, 45, low=20, high=400), drugs=atc("C10AA05", "C10AX09"),
        rate=30, per_decade=0.25, preclinical_years=3, visits=0.2,
    ),
    Disease(
        name="smoking_dependence", codes=icd("F17.210"), symptom="ICD10CM//R06.89", drugs=atc("N07BA01"),
        rate=12, per_decade=-0.2, female=-0.5, preclinical_years=1.5, visits=0.2,
    ),
    Disease(
        name="alcohol_dependence", codes=icd("F10.20", "F10.21"), symptom="ICD10CM//R78.0",
        lab=log_lab("2324-2", 3.2, 1.2), drugs=atc("N07BB04"), rate=5, per_decade=-0.1, female=-0.7,
        admissions=0.08, readmission=0.2,
    ),
    Disease(
        name="asthma", codes=icd("J45.909", "J45.40"), symptom="ICD10CM//R06.2", lab=log_lab("26449-9", -1.8, 0.9),
        drugs=atc("R03AC02", "R03BA02"), rate=7, per_decade=-0.15, female=0.3, admissions=0.03,
    ),
    Disease(
        name="depression", codes=icd("F32.9", "F33.1"), symptom="ICD10CM//R53.83",
        lab=lab("44261-6", 4, 1.3, 1.5, 8, high=27), drugs=atc("N06AB06", "N06AB04"), rate=14, per_decade=0.0,
        female=0.5, preclinical_years=1.2, visits=0.6, admissions=0.03,
    ),
    Disease(
        name="anxiety", codes=icd("F41.1", "F41.9"), symptom="ICD10CM//R45.0",
        lab=lab("69737-5", 3, 1.2, 1.4, 7, high=21),
        drugs=atc("N05BA12"), rate=12, per_decade=-0.1, female=0.5, preclinical_years=1.2,
        raised_by={"depression": 0.8},
    ),
    Disease(
        name="hypothyroidism", codes=icd("E03.9"), symptom="ICD10CM//R53.1", lab=log_lab("3016-3", 0.6, 1.5),
        drugs=atc("H03AA01"), rate=6, per_decade=0.2, female=1.3,
    ),
    Disease(
        name="reflux", codes=icd("K21.9", "K21.00"), symptom="ICD10CM//R12", drugs=atc("A02BC01"), rate=18,
        per_decade=0.2, preclinical_years=1.5, visits=0.2, raised_by={"obesity": 0.6},
    ),
    Disease(
        name="osteoarthritis", codes=icd("M17.9", "M17.11"), symptom="ICD10CM//M25.569",
        lab=log_lab("30341-2", 2.4, 0.6),
        drugs=atc("M01AE01"), rate=22, per_decade=0.55, female=0.3, preclinical_years=3, raised_by={"obesity": 0.8},
    ),
    Disease(
        name="gout", codes=icd("M10.9", "M10.072"), symptom="ICD10CM//M79.673",
        lab=lab("3084-1", 5.4, 0.8, 0.5, 2.4, low=1, high=15), drugs=atc("M04AA01"), rate=5, female=-0.9,
        raised_by={"obesity": 0.6, "hypertension": 0.4},
    ),
    Disease(
        name="type_2_diabetes", codes=icd("E11.9", "E11.65", "E11.22"), symptom="ICD10CM//R63.1",
        lab=lab("4548-4", 5.4, 0.22, 0.2, 1.4, low=3.5, high=16), drugs=atc("A10BA02", "A10BB12", "A10BK01"),
        rate=11, per_decade=0.35, preclinical_years=3.5, visits=1.0, admissions=0.04, fatality=0.004,
        raised_by={"obesity": 1.3, "hypertension": 0.6},
    ),
    Disease(
        name="iron_deficiency_anemia", codes=icd("D50.9"), symptom="ICD10CM//R23.1",
        lab=lab("718-7", 13.8, 0.7, 0.4, -2.8, low=4, high=20), drugs=atc("B03AA07"), rate=9, per_decade=0.25,
        female=0.5, preclinical_years=1.5, admissions=0.03,
    ),
    Disease(
        name="osteoporosis", codes=icd("M81.0"), symptom="ICD10CM//M54.9",
        lab=lab("1989-3", 32, 6, 4, -13, low=3, high=150),
        drugs=atc("M05BA04"), rate=7, per_decade=0.7, female=1.2, preclinical_years=3.5,
    ),
    Disease(
        name="coronary_artery_disease", codes=icd("I25.10", "I25.119"), symptom="ICD10CM//R07.89",
        lab=log_lab("30522-7", 0.4, 1.0), drugs=atc("B01AC06", "C07AB02"), rate=10, per_decade=0.55, female=-0.6,
        preclinical_years=3, visits=0.8, admissions=0.08, early_admissions=0.3, readmission=0.12, fatality=0.008,
        raised_by={"hyperlipidemia": 0.9, "hypertension": 0.7, "smoking_dependence": 0.9, "type_2_diabetes": 0.7},
    ),
    Disease(
        name="copd", codes=icd("J44.9", "J44.1"), symptom="ICD10CM//R05",
        lab=lab("59408-5", 97, 0.6, 0.7, -4, low=70, high=100),
        drugs=atc("R03BB04", "R03AK06"), rate=5, per_decade=0.5, preclinical_years=3, visits=0.8, admissions=0.22,
        early_admissions=0.3, readmission=0.22, fatality=0.022, raised_by={"smoking_dependence": 1.9, "asthma": 0.8},
    ),
    Disease(
        name="atrial_fibrillation", codes=icd("I48.91", "I48.20"), symptom="ICD10CM//R00.2",
        lab=lab("8867-4", 73, 6, 5, 16, low=35, high=220), drugs=atc("B01AF02", "C07AB07"), rate=6, per_decade=0.75,
        female=-0.3, preclinical_years=2, visits=0.7, admissions=0.1, early_admissions=0.2, fatality=0.008,
        raised_by={"hypertension": 0.6, "obesity": 0.6, "coronary_artery_disease": 0.7},
    ),
    Disease(
        name="chronic_kidney_disease", codes=icd("N18.30", "N18.4", "N18.5"), symptom="ICD10CM//R60.0",
        lab=lab("33914-3", 88, 8, 6, -38, low=3, high=160), drugs=atc("C03CA01", "V03AE02"), rate=6, per_decade=0.6,
        preclinical_years=4, visits=0.8, admissions=0.1, readmission=0.15, fatality=0.015,
        raised_by={"type_2_diabetes": 1.4, "hypertension": 0.9, "gout": 0.5},
    ),
    Disease(
        name="heart_failure", codes=icd("I50.9", "I50.22", "I50.32"), symptom="ICD10CM//R06.00",
        lab=log_lab("33762-6", 4.4, 2.2, 0.5, 0.4), drugs=atc("C03CA01", "C09DX04", "C03DA01"), rate=4, per_decade=0.8,
        preclinical_years=2.5, visits=1.0, admissions=0.3, early_admissions=0.6, readmission=0.3, fatality=0.05,
        early_fatality=0.12,
        raised_by={"coronary_artery_disease": 1.3, "hypertension": 0.6, "atrial_fibrillation": 1.0, "copd": 0.6},
    ),
    Disease(
        name="myocardial_infarction", codes=icd("I21.4", "I25.2"), symptom="ICD10CM//R07.2", acute=True,
        lab=log_lab("10839-9", -4.2, 1.6), drugs=atc("B01AC04", "C10AA05"), rate=4, per_decade=0.55, female=-0.5,
        preclinical_years=1.5, visits=0.8, admissions=0.05, early_admissions=0.4, readmission=0.2, fatality=0.01,
        early_fatality=0.4,
        raised_by={"coronary_artery_disease": 1.5, "type_2_diabetes": 0.6, "smoking_dependence": 0.8},
    ),
    Disease(
        name="ischemic_stroke", codes=icd("I63.9", "I69.30"), symptom="ICD10CM//R42", acute=True,
        lab=log_lab("48065-7", 5.7, 1.1), drugs=atc("B01AC04"), rate=3.5, per_decade=0.7, preclinical_years=1.5,
        admissions=0.06, early_admissions=0.2, readmission=0.18, fatality=0.02, early_fatality=0.35,
        raised_by={"atrial_fibrillation": 1.5, "hypertension": 0.8, "type_2_diabetes": 0.4},
    ),
    Disease(
        name="peripheral_artery_disease", codes=icd("I73.9", "I70.219"), symptom="ICD10CM//M79.606",
        drugs=atc("B01AC23"), rate=3, per_decade=0.55, preclinical_years=3, admissions=0.06, fatality=0.006,
        raised_by={"smoking_dependence": 1.4, "type_2_diabetes": 1.0},
    ),
    Disease(
        name="cirrhosis", codes=icd("K74.60", "K70.31"), symptom="ICD10CM//R18.8",
        lab=lab("777-3", 250, 38, 18, -120, low=5, high=900), drugs=atc("A05AA02"), rate=1.2, per_decade=0.2,
        female=-0.4,
        preclinical_years=4, admissions=0.4, readmission=0.3, fatality=0.08, raised_by={"alcohol_dependence": 2.4},
    ),
    Disease(
        name="dementia", codes=icd("G30.9", "F03.90"), symptom="ICD10CM//R41.3",
        lab=lab("72106-8", 28.2, 0.7, 0.8, -6, high=30), drugs=atc("N06DA02"), rate=1.6, per_decade=1.15, female=0.2,
        preclinical_years=3.5, admissions=0.12, readmission=0.15, fatality=0.09, raised_by={"ischemic_stroke": 0.9},
    ),
    Disease(
        name="parkinson_disease", codes=icd("G20"), symptom="ICD10CM//R25.1", drugs=atc("N04BA02"), rate=0.5,
        per_decade=0.8, female=-0.4, admissions=0.08, fatality=0.04, preclinical_years=3,
    ),
    Disease(
        name="epilepsy", codes=icd("G40.909"), symptom="ICD10CM//R55", drugs=atc("N03AX14"), rate=0.8, per_decade=0.15,
        admissions=0.1, raised_by={"ischemic_stroke": 1.8, "alcohol_dependence": 1.0},
    ),
    Disease(
        name="rheumatoid_arthritis", codes=icd("M06.9", "M05.79"), symptom="ICD10CM//M25.50",
        lab=log_lab("11572-5", 2.2, 1.6),
        drugs=atc("L04AX03", "L01FA01"), rate=1.0, per_decade=0.15, female=0.9, visits=0.8,
    ),
    Disease(
        name="pneumonia", codes=icd("J18.9", "Z87.01"), symptom="ICD10CM//R50.9", acute=True, shape=1.0,
        lab=lab("6690-2", 6.8, 1.1, 0.9, 4, low=0.5, high=60), drugs=atc("J01CA04"), rate=7, per_decade=0.6,
        preclinical_years=0.4, visits=0.1, readmission=0.18, fatality=0.004, early_fatality=0.3,
        raised_by={"copd": 1.2, "heart_failure": 0.8, "dementia": 1.0},
    ),
    Disease(
        name="sepsis", codes=icd("A41.9", "Z86.19"), symptom="ICD10CM//R68.83", acute=True, shape=1.0,
        lab=log_lab("1988-5", 1.0, 2.0), drugs=atc("J01DD04"), rate=2.2, per_decade=0.65, preclinical_years=0.3,
        visits=0.1,
        readmission=0.25, fatality=0.01, early_fatality=0.8,
        raised_by={"type_2_diabetes": 0.7, "cirrhosis": 1.3, "chronic_kidney_disease": 1.0},
    ),
    Disease(
        name="hip_fracture", codes=icd("S72.001A", "Z87.310"), symptom="ICD10CM//R29.6", acute=True, rate=1.2,
        per_decade=1.0,
        female=0.4, preclinical_years=1.0, drugs=atc("M05BA07"), readmission=0.15, early_fatality=0.35,
        raised_by={"osteoporosis": 1.7, "dementia": 1.2},
    ),
    Disease(
        name="pulmonary_embolism", codes=icd("I26.99", "Z86.711"), symptom="ICD10CM//M79.89", acute=True, rate=0.9,
        per_decade=0.45, drugs=atc("B01AF01"), preclinical_years=0.8, readmission=0.15, early_fatality=0.5,
        raised_by={"obesity": 0.7},
    ),
    Disease(
        name="colorectal_cancer", codes=icd("C18.9", "C18.7"), symptom="ICD10CM//K62.5",
        lab=log_lab("2039-6", 0.6, 1.8),
        drugs=atc("L01BC02"), rate=2.2, per_decade=0.6, female=-0.2, preclinical_years=2.5, visits=1.5, admissions=0.15,
        early_admissions=1.2, readmission=0.2, fatality=0.08, early_fatality=0.1,
    ),
    Disease(
        name="lung_cancer", codes=icd("C34.90", "C34.11"), symptom="ICD10CM//R04.2", lab=log_lab("25390-6", 0.5, 1.8),
        drugs=atc("L01FF02"), rate=1.6, per_decade=0.6, preclinical_years=1.8, visits=1.5, admissions=0.3,
        early_admissions=1.0, readmission=0.25, fatality=0.35, early_fatality=0.3,
        raised_by={"smoking_dependence": 1.9, "copd": 1.0},
    ),
    Disease(
        name="pancreatic_cancer", codes=icd("C25.9", "C25.0"), symptom="ICD10CM//R63.4",
        lab=log_lab("24108-3", 2.2, 2.0),
        drugs=atc("L01BC05"), rate=0.4, per_decade=0.65, preclinical_years=1.2, visits=1.5, admissions=0.4,
        early_admissions=1.0, readmission=0.25, fatality=0.5, early_fatality=0.5, raised_by={"type_2_diabetes": 0.9},
    ),
    Disease(
        name="breast_cancer", codes=icd("C50.919", "C50.911"), symptom="ICD10CM//N63.0",
        lab=log_lab("6875-9", 2.7, 1.0),
        drugs=atc("L02BA01"), rate=0.03, per_decade=0.3, female=4.5, visits=1.5, admissions=0.06, early_admissions=0.8,
        fatality=0.02,
    ),
    Disease(
        name="prostate_cancer", codes=icd("C61"), symptom="ICD10CM//R35.0", lab=log_lab("2857-1", 0.1, 1.8, 0.4),
        drugs=atc("L02AE02"), rate=5, per_decade=0.8, female=-30.0, preclinical_years=3.5, visits=1.0, admissions=0.04,
        early_admissions=0.4, fatality=0.012,
    ),
)  # fmt: skip
INDEX = {disease.name: i for i, disease in enumerate(DISEASES)}
