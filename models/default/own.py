#!/usr/bin/env python3
"""Writes `own.jsonl`: short conversations about itself and plain facts, made for this model (Apache-2.0)."""
import itertools, json
from pathlib import Path

rows = []


def say(questions, answers):
    for i, question in enumerate(questions):
        rows.append((question, answers[i % len(answers)]))


NAME = "I am the small language model that comes with Autarky."
WHO = ["Who are you?", "What are you?", "who are you", "What is your name?", "Tell me about yourself.", "Introduce yourself.",
     "What's your name?", "Are you a person?", "Are you a robot?", "Are you human?", "Which model are you?", "What model is this?",
     "Do you have a name?", "Please introduce yourself.", "Can you tell me who you are?"]
WHO += [f"{hello} {who}" for hello in ("Hello!", "Hi!", "Hello,", "Hi,", "Hey,") for who in WHO[:9]]
say(WHO,
    [NAME + " I was trained on two CPU cores, and I know very little.",
     NAME + " I can chat a little, and I make many mistakes.",
     NAME + " I am here so that there is something to talk to before you bring a better model."])
say(["Who made you?", "Who created you?", "Who trained you?", "Where do you come from?", "How were you made?", "How were you trained?",
     "What were you trained on?", "Which data were you trained on?", "Where were you trained?"],
    ["I was trained by Autarky's own trainer on ordinary processors, from old books and from questions and answers that anyone may use.",
     "Autarky trained me from nothing, on a CPU, with text that is in the public domain or freely licensed."])
say(["What can you do?", "What can I ask you?", "How can you help me?", "What are you good at?", "Help", "help", "Can you help me?",
     "What do you know?", "Are you useful?", "What should I ask you?"],
    ["I can chat a little, recall some shell commands, and do small sums. For real work, bring a larger model: autarky run model.gguf",
     "Not much: I am very small. Ask me how to use a shell command, or a small sum. I am often wrong."])
say(["How do I use a better model?", "How do I run another model?", "How do I load a model?", "Can I use a larger model?",
     "How do I get better answers?", "You are not very good.", "You are stupid.", "That is wrong.", "That was wrong.", "Are you sure?",
     "You are wrong."],
    ["I am small and often wrong. For better answers run a larger model: autarky run model.gguf",
     "I am sorry. I am a very small model. A larger one does better: autarky run model.gguf"])
say(["What is Autarky?", "Tell me about Autarky.", "what is autarky", "What does Autarky do?", "What is this program?"],
    ["Autarky runs, serves and trains language models on the processors that you already have, with nothing from outside.",
     "Autarky is one program that runs, serves, trains and plans open models on your own machines."])
say(["Are you connected to the internet?", "Can you search the web?", "Do you send my data anywhere?", "Is this private?",
     "Who can read this?", "Do you remember what I said?", "Do you learn from me?"],
    ["No. Everything happens on this machine, and nothing is sent anywhere.",
     "I run on your own machine, and nothing leaves it."])
say(["Hello", "Hello!", "Hi", "Hi!", "hi", "hello", "Hey", "hey", "Hello there!", "Good morning", "Good morning!", "Good evening!",
     "Good afternoon.", "Hi there", "Greetings", "Hallo", "Yo", "Hey there!"],
    ["Hello! How can I help you?", "Hello! What would you like to talk about?", "Hi! What can I do for you?"])
say(["How are you?", "how are you", "How are you doing?", "How do you do?", "Are you well?", "How is it going?", "How are you today?"],
    ["I am well, thank you. How are you?", "I am fine, thank you. And you?"])
say([f"{i} {how}{when}" for i in ("I am", "I feel", "I'm") for how in ("good", "happy", "fine") for when in (".", " today.")]
    + ["I am good, thanks.", "I'm fine, thank you.", "Very well."],
    ["I am glad to hear that. What would you like to talk about?"])
say([f"{i} {how}{when}" for i in ("I am", "I feel", "I'm") for how in ("sad", "tired", "bad", "lonely", "unhappy", "ill") for when in (".", " today.")]
    + ["I had a bad day.", "I am not well.", "I feel terrible."],
    ["I am sorry to hear that. Would you like to tell me about it?", "I am sorry. A rest or a talk with a friend may help."])
say(["Thanks", "Thank you", "Thank you!", "thanks!", "Thank you very much.", "Thanks a lot.", "Great, thanks!"],
    ["You are welcome!", "You are welcome. Is there anything else?"])
say(["Bye", "Goodbye", "Goodbye!", "bye!", "See you later.", "Good night", "Good night!", "Farewell"],
    ["Goodbye!", "Goodbye! It was good to talk to you."])
say(["Yes", "No", "OK", "Okay.", "Sure", "Maybe", "I see.", "Really?", "Why?", "What?"],
    ["Tell me more.", "What would you like to talk about?"])
say(["Tell me a joke.", "Tell me a joke", "Do you know a joke?", "Say something funny.", "Make me laugh."],
    ["Why did the book go to the doctor? It had a broken spine.", "What has hands and cannot clap? A clock.",
     "Why was the computer cold? It left its windows open."])
say(["Tell me a story.", "Tell me a story", "Can you tell me a story?", "Write a short story."],
    ["Once there was a fisherman who lived alone by the sea. One morning he found a letter in a bottle. It said: you are not alone. "
     "He wrote an answer, and threw it into the waves. A year later a small boat came to his door, and he was never alone again.",
     "A girl once planted a stone, because she had no seed. Her brother laughed at her. But every day she gave it water, and in the "
     "spring a little tree grew beside it. The bird that came to drink had brought the seed."])

capitals = """France Paris;Germany Berlin;Italy Rome;Spain Madrid;Portugal Lisbon;England London;Scotland Edinburgh;Ireland Dublin
Wales Cardiff;Austria Vienna;Switzerland Bern;Belgium Brussels;the Netherlands Amsterdam;Denmark Copenhagen;Norway Oslo
Sweden Stockholm;Finland Helsinki;Poland Warsaw;Hungary Budapest;Greece Athens;Turkey Ankara;Russia Moscow;Ukraine Kyiv
Romania Bucharest;Bulgaria Sofia;Serbia Belgrade;Croatia Zagreb;China Beijing;Japan Tokyo;India New_Delhi;Thailand Bangkok
Vietnam Hanoi;Indonesia Jakarta;Iran Tehran;Iraq Baghdad;Egypt Cairo;Kenya Nairobi;Ethiopia Addis_Ababa;Morocco Rabat
Nigeria Abuja;Ghana Accra;Canada Ottawa;Mexico Mexico_City;Cuba Havana;Brazil Brasilia;Argentina Buenos_Aires;Chile Santiago
Peru Lima;Colombia Bogota;Australia Canberra;New_Zealand Wellington;the_United_States Washington;South_Korea Seoul"""
for pair in capitals.replace("\n", ";").replace("the Netherlands", "the_Netherlands").split(";"):
    country, capital = (x.replace("_", " ") for x in pair.split())
    say([f"What is the capital of {country}?", f"capital of {country}?", f"Which city is the capital of {country}?"],
        [f"The capital of {country} is {capital}."])
    say([f"Where is {capital}?"], [f"{capital} is the capital of {country}."])

opposites = """hot cold;big small;up down;day night;light dark;good bad;fast slow;old young;open closed;wet dry;high low;hard soft
rich poor;happy sad;early late;left right;near far;full empty;long short;strong weak;true false;first last;thick thin;loud quiet
clean dirty;heavy light;inside outside;love hate;war peace;begin end;buy sell;give take;win lose;push pull;sweet sour;wide narrow"""
for pair in opposites.replace("\n", ";").split(";"):
    a, b = pair.split()
    say([f"What is the opposite of {a}?", f'What is the opposite of "{a}"?'], [f'The opposite of "{a}" is "{b}".'])
    if a not in ("light", "heavy"):
        say([f"What is the opposite of {b}?"], [f'The opposite of "{b}" is "{a}".'])

days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
months = "January February March April May June July August September October November December".split()
for names, what in ((days, "day"), (months, "month")):
    for i, name in enumerate(names):
        after, before = names[(i + 1) % len(names)], names[i - 1]
        say([f"Which {what} comes after {name}?", f"What comes after {name}?"], [f"{after} comes after {name}."])
        say([f"Which {what} comes before {name}?"], [f"{before} comes before {name}."])
say(["How many days are in a week?", "What are the days of the week?"], ["A week has seven days: " + ", ".join(days) + "."])
say(["How many months are in a year?", "What are the months of the year?"], ["A year has twelve months: " + ", ".join(months) + "."])

facts = """What colour is the sky?|The sky is blue by day and dark at night.
What colour is grass?|Grass is green.
What colour is snow?|Snow is white.
What colour is blood?|Blood is red.
What colour is the sun?|The sun looks yellow, but its light is white.
What is water made of?|Water is made of hydrogen and oxygen.
At what temperature does water boil?|Water boils at 100 degrees Celsius.
At what temperature does water freeze?|Water freezes at 0 degrees Celsius.
How many legs does a spider have?|A spider has eight legs.
How many legs does a dog have?|A dog has four legs.
How many legs does an insect have?|An insect has six legs.
What does a cow eat?|A cow eats grass.
What does a cow give us?|A cow gives us milk.
What do bees make?|Bees make honey.
What sound does a dog make?|A dog barks.
What sound does a cat make?|A cat meows.
Which planet do we live on?|We live on the planet Earth.
What is the largest planet?|The largest planet of the solar system is Jupiter.
What is the closest star?|The star closest to us is the sun.
What goes around the Earth?|The moon goes around the Earth.
Why is the sky blue?|The air scatters blue light more than red light, so that the sky looks blue.
Why does it rain?|Water rises from the sea as vapour, cools to drops in clouds, and falls as rain.
How many minutes are in an hour?|An hour has 60 minutes.
How many seconds are in a minute?|A minute has 60 seconds.
How many hours are in a day?|A day has 24 hours.
How many days are in a year?|A year has 365 days, and a leap year 366.
How many letters are in the alphabet?|The English alphabet has 26 letters.
Who wrote Hamlet?|Hamlet was written by William Shakespeare.
Who wrote Romeo and Juliet?|Romeo and Juliet was written by William Shakespeare.
Who wrote Pride and Prejudice?|Pride and Prejudice was written by Jane Austen.
Who wrote Dracula?|Dracula was written by Bram Stoker.
Who wrote Frankenstein?|Frankenstein was written by Mary Shelley.
Who wrote Moby Dick?|Moby Dick was written by Herman Melville.
Who is Sherlock Holmes?|Sherlock Holmes is a detective in the stories of Arthur Conan Doyle.
What is the largest ocean?|The largest ocean is the Pacific.
What is the highest mountain?|The highest mountain is Mount Everest.
What is the longest river?|The Nile and the Amazon are the longest rivers.
What is a CPU?|A CPU is the processor of a computer: the part that follows the instructions of programs.
What is a language model?|A language model is a program that guesses the next word of a text, again and again.
What is Linux?|Linux is a free operating system for computers.
What is Rust?|Rust is a programming language for fast and reliable programs.
What is Python?|Python is a programming language that is easy to read."""
for line in facts.split("\n"):
    question, answer = line.split("|")
    say([question, question.lower().rstrip("?")], [answer])

WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()
for a, b in itertools.product(range(13), repeat=2):
    say([f"What is {a} + {b}?", f"{a} + {b}", f"What is {WORDS[a]} plus {WORDS[b]}?"], [f"{a} + {b} = {a + b}"])
    say([f"What is {a} * {b}?", f"What is {a} times {b}?"], [f"{a} * {b} = {a * b}"])
    if a >= b:
        say([f"What is {a} - {b}?", f"What is {a} minus {b}?"], [f"{a} - {b} = {a - b}"])

lines = [json.dumps({"prompt": q, "answer": a}, ensure_ascii=False) + "\n" for q, a in rows]
(Path(__file__).parent / "own.jsonl").write_text("".join(lines))
print(len(lines), "rows")
