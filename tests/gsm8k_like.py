"""A few problems in the form of GSM8K and SVAMP, written for these tests: they need no file from elsewhere.

Between them the worked solutions have what GSM8K's have: calculator annotations, commas in numbers, decimals with and
without a leading zero, percentages, fractions, a negative result, an amount that is reached twice, prose between
calculations, a blank line, and lines without any calculation.
"""

import json
from pathlib import Path

GSM8K_ROWS = [
    {
        "question": "A baker fills 48 boxes in the morning and half as many in the afternoon. How many boxes is that?",
        "answer": "In the afternoon the baker fills 48/2 = <<48/2=24>>24 boxes.\n"
        "Altogether that is 48+24 = <<48+24=72>>72 boxes.\n#### 72",
    },
    {
        "question": "Noor earns $15 an hour for 8 hours and spends $37 of it. How much money is left?",
        "answer": "Noor earns 15 * 8 = $<<15*8=120>>120.\nWhat is left is $120 - $37 = $<<120-37=83>>83.\n#### 83",
    },
    {
        "question": "A school with 1,200 pupils grows by 5%. How many pupils has it then?",
        "answer": "It gains 1,200*.05 = <<1200*.05=60>>60 pupils.\n"
        "So it has 1200+60 = <<1200+60=1260>>1,260 pupils.\n#### 1,260",
    },
    {
        "question": "A tap fills 12 litres in an hour. How many litres does it fill in 50 minutes?",
        "answer": "In a minute it fills 12/60 = <<12/60=0.2>>0.2 litres.\n"
        "In 50 minutes it fills 0.2 x 50 = <<0.2*50=10>>10 litres.\n#### 10",
    },
    {
        "question": "A coat costs $80 and is sold at 25% off. A hat costs $12.50. What do both cost together?",
        "answer": "The discount is 80*25/100 = $<<80*25/100=20>>20.\nThe coat costs 80-20 = $<<80-20=60>>60.\n"
        "Both cost $60 + $12.50 = $<<60+12.5=72.5>>72.50.\n#### 72.50",
    },
    {
        "question": "Ivo reads 1/4 of a book of 360 pages on Monday and 1/3 of the rest on Tuesday. How many are left?",
        "answer": "On Monday Ivo reads 360*1/4 = <<360*1/4=90>>90 pages.\n"
        "360-90 = <<360-90=270>>270 pages stay.\n\nOn Tuesday Ivo reads 270/3 = <<270/3=90>>90 pages.\n"
        "So 270-90 = <<270-90=180>>180 pages are left.\n#### 180",
    },
    {
        "question": "It is 6 degrees at noon. By night it is 14 degrees colder. What is the temperature then?",
        "answer": "The temperature falls to 6-14 = <<6-14=-8>>-8 degrees.\n#### -8",
    },
    {
        "question": "A lorry brings 3 loads of 4,500 bricks. A wall takes 250 bricks a metre. How many metres is that?",
        "answer": "There are 3*4,500 = <<3*4500=13500>>13,500 bricks.\n"
        "They make 13,500/250 = <<13500/250=54>>54 metres of wall.\n#### 54",
    },
    {
        "question": "Lena is twice as old as Mio, and in 5 years they will be 40 together. How old is Mio?",
        "answer": "Let x be Mio's age.\nIn 5 years they are 10 years older together, so now they are "
        "40-10 = <<40-10=30>>30.\nx + 2x = 30, so 3x = 30\nMio is 30/3 = <<30/3=10>>10 years old.\n#### 10",
    },
    {
        "question": "A tank of 2,000 litres loses 15% in summer and gains 340 litres in autumn. How much is in it?",
        "answer": "85% of the water stays, as 100-15 = <<100-15=85>>85.\n"
        "That is 2,000*85/100 = <<2000*85/100=1700>>1,700 litres.\n"
        "In autumn there are 1,700+340 = <<1700+340=2040>>2,040 litres.\n#### 2,040",
    },
    {
        "question": "Sara walks 3 miles a day and 2.5 miles more on each of the 2 days of a weekend. How far a week?",
        "answer": "First the 7 days: 3*7 = <<3*7=21>>21 miles.\nThe weekend adds 2.5*2 = <<2.5*2=5>>5 miles.\n"
        "She walks 21+5 = <<21+5=26>>26 miles.\n#### 26",
    },
    {
        "question": "A stadium sells 15,000 tickets at $20 and 1/5 as many at $50. How much does it take in?",
        "answer": "The cheap tickets bring 15,000*20 = $<<15000*20=300000>>300,000.\n"
        "There are 15000/5 = <<15000/5=3000>>3,000 dear tickets.\nThey bring 3,000*50 = $<<3000*50=150000>>150,000.\n"
        "Altogether it takes in $300,000 + $150,000 = $<<300000+150000=450000>>450,000.\n#### 450,000",
    },
]
FINAL_ANSWERS = ("72", "83", "1260", "10", "72.50", "180", "-8", "54", "10", "2040", "26", "450000")

SVAMP_ROWS = [
    {
        "ID": f"chal-{number}",
        "Body": body,
        "Question": question,
        "Equation": equation,
        "Answer": answer,
        "Type": kind,
    }
    for number, (body, question, equation, answer, kind) in enumerate(
        [
            ("Each pack of pens costs 76 dollars.", "What do 4 packs cost?", "( 76.0 * 4.0 )", 304.0, "Multiplication"),
            (
                "A barn holds 18 cows and 5 goats",
                "How many more cows are there?",
                "( 18.0 - 5.0 )",
                13.0,
                "Subtraction",
            ),
            ("If Pia has 9 caps and buys 6", "how many has she?", "( 9.0 + 6.0 )", 15.0, "Addition"),
            ("Rolf cuts 27 metres of rope.", "How long is a third of it?", "( 27.0 / 3.0 )", 9.0, "Common-Division"),
            ("A jug of 3 litres fills 4 cups.", "How many litres is a cup?", "( 3.0 / 4.0 )", 0.75, "Common-Division"),
            ("A shop sells 1200 apples a day.", "How many in 2 days?", "( 1200.0 * 2.0 )", 2400.0, "Multiplication"),
            ("Ann gave 3 cats away. 8 are left.", "How many had she?", "( 3.0 + 8.0 )", 11.0, "Addition"),
            ("There were 54 birds, and 16 flew off.", "How many stay?", "( 54.0 - 16.0 )", 38.0, "Subtraction"),
            ("6 rows have 7 seats each.", "How many seats are there?", "( 6.0 * 7.0 )", 42.0, "Multiplication"),
            ("Timo owes 5 coins and has 2.", "What is his balance?", "( 2.0 - 5.0 )", -3.0, "Subtraction"),
        ],
        start=1,
    )
]


def write_gsm8k(folder: Path) -> Path:
    """Write `train.jsonl` and `test.jsonl`, the first nine rows and the other three, as GSM8K is distributed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", GSM8K_ROWS[:9]), ("test", GSM8K_ROWS[9:])):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder


def write_svamp(folder: Path) -> Path:
    """Write `SVAMP.json` as SVAMP is distributed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SVAMP.json").write_text(json.dumps(SVAMP_ROWS), encoding="utf-8")
    return folder
